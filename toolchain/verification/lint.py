"""Checks generated HLS C++ for what Vitis HLS would refuse, ignore or make slow; no vendor tool is needed.

Every function that the top function reaches is checked as clang instantiated it: with its types, loop bounds and array
sizes as numbers. `directives.py` holds the tables; `unit.py` explains how pragmas come into the syntax tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from toolchain.errors import ModelError
from toolchain.verification.blocks import Blocks
from toolchain.verification.directives import WORD_LIMIT, Fault
from toolchain.verification.process_network import check_top, frame_function
from toolchain.verification.unit import PROBES, Cursor, Finding, Function, Unit, parse, reachable

__all__ = ["Finding", "lint_hls"]

_WIDE = re.compile(r"\bap_(?:u?int|u?fixed)(?:_base)?<(\d+)")
_FLOATING = re.compile(r"\b(?:float|double|long double|half|__fp16|_Float16)\b")
_HEAP = frozenset({"malloc", "calloc", "realloc", "free", "alloca", "aligned_alloc", "strdup"})
_CONTAINER = re.compile(r"\bstd::(?:\w+::)?(vector|deque|list|map|set|basic_string|function|unique_ptr|shared_ptr)\b")
_DECODING = frozenset(
    {f"src/kernels/{name}.h" for name in ("container", "decoder", "weight_loader", "streamed_matrix_vector")}
)
"""These read a container: how often their loops run is known only then."""
_FORBIDDEN: Mapping[str, Fault] = {
    "CXX_NEW_EXPR": ("dynamic-memory", "new has no memory to take from in hardware"),
    "CXX_DELETE_EXPR": ("dynamic-memory", "delete has nothing to give back in hardware"),
    "CXX_THROW_EXPR": ("exception", "nothing in hardware catches an exception"),
    "CXX_TRY_STMT": ("exception", "nothing in hardware catches an exception"),
    "WHILE_STMT": ("loop-kind", "a while loop has no static trip count"),
    "DO_STMT": ("loop-kind", "a do loop has no static trip count"),
    "CXX_FOR_RANGE_STMT": ("loop-kind", "a range-based loop has no static trip count"),
    "GOTO_STMT": ("loop-kind", "goto makes a loop whose trip count nobody knows"),
    "INDIRECT_GOTO_STMT": ("loop-kind", "goto makes a loop whose trip count nobody knows"),
    "FLOATING_LITERAL": ("floating-point", "floating point in an integer program"),
}


def lint_hls(folder: Path) -> list[Finding]:
    """Everything questionable in a generated `hls/` folder, sorted by file and line; empty when all is well.

    Raises:
        ToolError: libclang, g++'s headers or the ap_types headers are missing.
        ModelError: the folder is no generated project.
    """
    unit = parse(folder)
    found = {*unit.findings, *unit.diagnostics()}
    if unit.word_limit > WORD_LIMIT:
        text = f"AP_INT_MAX_W is {unit.word_limit}, Vitis HLS takes at most {WORD_LIMIT}"
        found.add(Finding(*unit.word_limit_at, "width", text))
    top = _top(unit)
    if top is None:
        if not found:
            raise ModelError(f"src/{unit.top}.cpp defines no function {unit.top}", where=str(folder))
        return sorted(found, key=_order)
    functions = reachable(unit, top)
    is_loaded = frame_function(unit, top, functions) != top
    for function in functions.values():
        # Weights that are loaded stay in memories of the top function.
        keeps = is_loaded and function.cursor == top
        found.update(one for one in _constructs(unit, function) if not (keeps and one.rule == "state"))
        found.update(Blocks(unit, function.cursor, is_top=function.cursor == top).check())
    found.update(_virtual(unit, unit.translation_unit.cursor.get_children()))
    found.update(_recursion(unit, functions))
    found.update(check_top(unit, top, functions))
    found = {one for one in found if one.file not in _DECODING or one.rule not in ("loop-bound", "loop-kind")}
    return sorted(found, key=_order)


def _order(finding: Finding) -> tuple[str, int, str, str]:
    return finding.file, finding.line, finding.rule, finding.message


def _top(unit: Unit) -> Cursor | None:
    for cursor in unit.translation_unit.cursor.get_children():
        if cursor.kind.name == "FUNCTION_DECL" and cursor.spelling == unit.top and cursor.is_definition():
            return cursor
    return None


def _recursion(unit: Unit, functions: Mapping[str, Function]) -> Iterator[Finding]:
    """Every function that can reach itself."""
    graph = {name: {called.mangled_name for _, called in function.calls} for name, function in functions.items()}
    for name, function in functions.items():
        reached: set[str] = set()
        waiting = [name]
        while waiting:
            new = graph.get(waiting.pop(), set()) - reached
            waiting += new
            reached |= new
        place = unit.place(function.cursor)
        if name in reached and place:
            yield Finding(*place, "recursion", f"{function.cursor.spelling} calls itself, directly or through others")


def _virtual(unit: Unit, cursors: Iterable[Cursor]) -> Iterator[Finding]:
    for cursor in cursors:
        if (place := unit.place(cursor)) is None:
            continue
        if cursor.kind.name in {"CXX_METHOD", "DESTRUCTOR"} and cursor.is_virtual_method():
            yield Finding(*place, "virtual", f"{cursor.spelling} is virtual: no tables of functions in hardware")
        elif cursor.kind.name in {"NAMESPACE", "STRUCT_DECL", "CLASS_DECL", "CLASS_TEMPLATE"}:
            yield from _virtual(unit, cursor.get_children())


def _constructs(unit: Unit, function: Function) -> Iterator[Finding]:
    """What no synthesizable function may hold, whichever statement it is in."""
    for cursor in function.nodes:
        place = unit.place(cursor)
        if place is None:
            continue
        kind = cursor.kind.name
        if kind in _FORBIDDEN:
            yield Finding(*place, *_FORBIDDEN[kind])
        if kind == "CALL_EXPR":
            yield from (Finding(*place, *fault) for fault in _call_faults(unit, cursor))
        elif kind == "VAR_DECL":
            yield from (Finding(*place, *fault) for fault in _variable_faults(cursor))
        elif kind == "DECL_REF_EXPR" and _is_mutable_global(unit, cursor.referenced):
            yield Finding(*place, "state", f"{cursor.spelling} is a global that can change")
        yield from (Finding(*place, *fault) for fault in _type_faults(unit, cursor))


def _call_faults(unit: Unit, call: Cursor) -> Iterator[Fault]:
    called = call.referenced
    if called is None:
        # A call without a declaration: a copy of an object, or the callee is a value.
        callee = next(call.get_children(), None)
        if callee is not None and callee.type.get_canonical().get_pointee().kind.name == "FUNCTIONPROTO":
            yield "function-pointer", "the called function is not known before run time"
        return
    if called.kind.name not in {"FUNCTION_DECL", "CXX_METHOD", "CONSTRUCTOR", "DESTRUCTOR", "CONVERSION_FUNCTION"}:
        if called.kind.name in {"VAR_DECL", "PARM_DECL", "FIELD_DECL"}:
            yield "function-pointer", f"{called.spelling} points to a function, not known before run time"
        return
    outer = _outermost(called)
    if called.spelling in _HEAP:
        yield "dynamic-memory", f"{called.spelling} has no memory to take from in hardware"
    elif outer == "std":
        yield "library", f"std::{called.spelling} is not synthesizable"
    elif outer == "" and called.kind.name == "FUNCTION_DECL" and unit.place(called) is None:
        yield from _library(called.spelling)


def _library(name: str) -> Iterator[Fault]:
    # The vendor's own headers have operators and helpers outside any namespace.
    if not name.startswith(("operator", "__builtin", "ap_")):
        yield "library", f"{name} is not synthesizable"


def _variable_faults(cursor: Cursor) -> Iterator[Fault]:
    if cursor.storage_class.name == "STATIC" and not _is_const(cursor.type):
        yield "state", f"static {cursor.spelling} keeps its value from frame to frame"
    if containers := _CONTAINER.findall(cursor.type.get_canonical().spelling):
        yield "dynamic-memory", f"{cursor.spelling} is a std::{containers[0]}, which takes memory at run time"


def _type_faults(unit: Unit, cursor: Cursor) -> Iterator[Fault]:
    spelling = cursor.type.get_canonical().spelling
    if not spelling:
        return
    widest = max((int(width) for width in _WIDE.findall(spelling)), default=0)
    if widest > min(unit.word_limit, WORD_LIMIT):
        yield "width", f"a word of {widest} bits is wider than {min(unit.word_limit, WORD_LIMIT)}"
    declares = cursor.kind.name in {"VAR_DECL", "PARM_DECL"}
    if (declares or cursor.kind.name == "FUNCTION_DECL") and _FLOATING.search(spelling):
        yield "floating-point", f"{cursor.spelling} is floating point in an integer program"
    if declares and re.search(r"\(\*[^)]*\)\s*\(", spelling):
        yield "function-pointer", f"{cursor.spelling} points to a function"


def _is_mutable_global(unit: Unit, cursor: Cursor | None) -> bool:
    if cursor is None or cursor.kind.name != "VAR_DECL" or unit.place(cursor) is None or _is_const(cursor.type):
        return False
    parent = cursor.semantic_parent
    return parent is not None and parent.kind.name in {"NAMESPACE", "TRANSLATION_UNIT"}


def _is_const(type: Cursor) -> bool:
    # Clang says of an array that it is const, not of its elements.
    return bool(type.get_canonical().is_const_qualified())


def _outermost(cursor: Cursor) -> str:
    """The name of the outermost namespace a declaration lies in."""
    name = ""
    parent = cursor.semantic_parent
    while parent is not None and parent.kind.name != "TRANSLATION_UNIT":
        name = parent.spelling if parent.kind.name == "NAMESPACE" else name
        parent = parent.semantic_parent
    return "" if name == PROBES else name
