"""The synthesizable C++ of a generated project as libclang sees it, every pragma being a statement of the syntax tree.

Clang drops pragmas it does not know, and the open ap_types headers refuse __SYNTHESIS__. So the headers come first,
__SYNTHESIS__ is defined after them, and in the text that clang gets each pragma is replaced, on its own line, by calls

    ::dct_lint::pragma(7);  // array_partition variable = sums cyclic factor = PE
    ::dct_lint::variable("variable", sums); ::dct_lint::integer("factor", PE);

which clang resolves in their scope and evaluates in every template instantiation.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from toolchain.errors import ModelError, ToolError
from toolchain.verification.csim import ap_types
from toolchain.verification.directives import DIRECTIVES, Pragma, Rule, check_pragma, parse_pragma

Cursor = Any  # clang.cindex.Cursor; libclang ships no annotations

PROBES = "dct_lint"
_PRELUDE = """\
#define AP_INT_MAX_W {limit}
#include <ap_int.h>
#include <ap_fixed.h>
#include <hls_stream.h>
#define __SYNTHESIS__
namespace dct_lint {{
inline void pragma(int) {{}}
template <class T> void variable(const char*, const T&) {{}}
inline void integer(const char*, long long) {{}}
}}
#include "{source}"
"""
_PRAGMA = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])'"""
    r"""|^[ \t]*\#[ \t]*pragma[ \t]+HLS\b(?P<line>(?:\\\n|[^\n])*)"""
    r"""|\bDCT_HLS\((?P<macro>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_TABLE = re.compile(r"^(static const [^\n]*= )\{\n.*?\n\};", re.DOTALL | re.MULTILINE)
_LIMIT = re.compile(r"^[ \t]*#[ \t]*define[ \t]+AP_INT_MAX_W[ \t]+(\d+)", re.MULTILINE)
_DEFINES_MACRO = "pragmas.h"
_TEST_BENCH = "testbench.h"


@dataclass(frozen=True)
class Finding:
    """Something the vendor's tool would refuse, ignore or make slow. `file` is relative to the project's `hls/`."""

    file: str
    line: int
    rule: Rule
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Placed:
    """A pragma and where it was written."""

    pragma: Pragma
    at: tuple[str, int]


@dataclass(frozen=True)
class Unit:
    """A parsed project: its clang translation unit, the top function's name, and what the texts alone show."""

    folder: Path
    top: str
    translation_unit: Any
    word_limit: int
    word_limit_at: tuple[str, int]
    pragmas: tuple[Placed, ...]
    findings: tuple[Finding, ...]

    def place(self, cursor: Cursor) -> tuple[str, int] | None:
        """File and line of a cursor that lies in the project's own sources."""
        return self._inside(cursor.location)

    def _inside(self, location: Any) -> tuple[str, int] | None:
        file = location.file
        if file is None:
            return None
        root = f"{self.folder}/"
        name: str = file.name
        return (name[len(root) :], location.line) if name.startswith(f"{root}src/") else None

    def diagnostics(self) -> Iterator[Finding]:
        """Clang's errors; those on the line of a pragma are errors of the pragma."""
        directives = {placed.at: placed.pragma.directive for placed in self.pragmas}
        for said in self.translation_unit.diagnostics:
            if said.severity < 3:
                continue
            place = self._inside(said.location)
            if place is None or place not in directives:
                name = said.location.file.name if said.location.file else ""
                file, line = place or (name, said.location.line)
                yield Finding(file, line, "syntax", said.spelling)
            elif "undeclared" in said.spelling or "no member" in said.spelling:
                yield Finding(*place, "variable", f"{directives[place]}: {said.spelling}")
            else:
                yield Finding(*place, "placement", f"{directives[place]} stands outside a function's body")


@dataclass(frozen=True)
class Function:
    """A function of the project as instantiated: its cursor, all cursors in it, and (call, called) of the project's."""

    cursor: Cursor
    nodes: tuple[Cursor, ...]
    calls: tuple[tuple[Cursor, Cursor], ...]


def reachable(unit: Unit, top: Cursor) -> dict[str, Function]:
    """The functions that the top function reaches, itself first, by mangled name."""
    functions: dict[str, Function] = {}
    waiting = [top]
    while waiting:
        cursor = waiting.pop()
        if cursor.mangled_name in functions:
            continue
        nodes = tuple(cursor.walk_preorder())
        calls = []
        for node in nodes:
            if node.kind.name == "CALL_EXPR" and (called := node.referenced) is not None:
                definition = called if called.is_definition() else called.get_definition()
                if definition is not None and unit.place(definition) is not None:
                    calls.append((node, definition))
        functions[cursor.mangled_name] = Function(cursor, nodes, tuple(calls))
        waiting += [called for _, called in reversed(calls)]
    return functions


def parse(folder: Path) -> Unit:
    """Parses `src/<name>.cpp` of a generated `hls/` folder.

    Raises:
        ToolError: libclang, g++'s headers or ap_types are missing.
        ModelError: the folder is no generated project.
    """
    folder = folder.resolve()
    sources = sorted((folder / "src").glob("*.cpp"))
    if len(sources) != 1:
        raise ModelError("there must be exactly one src/*.cpp", where=str(folder))
    clang = _clang()
    pragmas: list[Placed] = []
    findings: list[Finding] = []
    limit, limit_at = 1024, ("src/kernels/word.h", 1)
    unsaved = []
    for path in sorted((folder / "src").rglob("*")):
        if path.suffix not in {".h", ".cpp"} or path.name in {_DEFINES_MACRO, _TEST_BENCH}:
            continue
        name, text = path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8", errors="replace")
        if found := _LIMIT.search(text):
            limit, limit_at = int(found[1]), (name, text.count("\n", 0, found.start()) + 1)
        unsaved.append((str(path), _probed(name, text, pragmas, findings)))
    main = str(folder / "src" / ".lint.cpp")
    unsaved.append((main, _PRELUDE.format(limit=limit, source=sources[0])))
    arguments = ["-std=c++14", f"-I{folder / 'sim'}", f"-I{folder / 'src'}", f"-I{folder / 'src/kernels'}"]
    arguments += ["-isystem", str(ap_types()), "-isystem", _builtin_headers()]
    try:
        unit = clang.Index.create().parse(main, arguments, unsaved)
    except clang.TranslationUnitLoadError:
        raise ToolError("libclang cannot parse it", where=str(sources[0])) from None
    return Unit(folder, sources[0].stem, unit, limit, limit_at, tuple(pragmas), tuple(findings))


def _clang() -> Any:
    try:
        from clang import cindex
    except ImportError:
        raise ToolError("libclang is not installed", fix="pip install libclang") from None
    return cindex


@cache
def _builtin_headers() -> str:
    """A folder with stddef.h and the like, which libclang's wheel lacks."""
    if shutil.which("g++") is None:
        raise ToolError("g++ is not installed", fix="On Debian: apt-get install g++")
    done = subprocess.run(["g++", "-print-file-name=include"], capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.strip()


def _probed(file: str, text: str, pragmas: list[Placed], findings: list[Finding]) -> str:
    """The text with its pragmas replaced, line numbers kept; large tables lose their values."""

    def replace(match: re.Match[str]) -> str:
        said = match["line"] if match["line"] is not None else match["macro"]
        if said is None:
            return match[0]
        line = text.count("\n", 0, match.start()) + 1
        said = re.sub(r"\\\n|//[^\n]*|/\*.*?\*/", " ", said, flags=re.DOTALL)
        pragma = parse_pragma(said)
        lines = "\n" * match[0].count("\n")
        if pragma is None:
            findings.append(Finding(file, line, "directive", "the pragma is empty"))
            return lines
        pragmas.append(Placed(pragma, (file, line)))
        findings.extend(Finding(file, line, rule, message) for rule, message in check_pragma(pragma))
        return f"::{PROBES}::pragma({len(pragmas) - 1});{_operands(pragma)}{lines}"

    probed = _PRAGMA.sub(replace, text)
    return _TABLE.sub(lambda table: f"{table[1]}{{" + "\n" * table[0].count("\n") + "};", probed)


def _operands(pragma: Pragma) -> str:
    directive = DIRECTIVES.get(pragma.directive)
    probes = []
    for name, value in pragma.options:
        option = directive.options.get(name) if directive else None
        if option is None or not value:
            continue
        if option.kind == "variable" and value != "return":
            probes += [f' ::{PROBES}::variable("{name}", {part.strip()});' for part in value.split(",")]
        elif option.kind == "integer":
            probes.append(f' ::{PROBES}::integer("{name}", {value});')
    return "".join(probes)


def evaluate(cursor: Cursor) -> int | None:
    """The value of a constant integer expression or variable, None where it is none."""
    library = _evaluator()
    result = library.clang_Cursor_Evaluate(cursor)
    if not result:
        return None
    try:
        if library.clang_EvalResult_getKind(result) != 1:
            return None
        return int(library.clang_EvalResult_getAsLongLong(result))
    finally:
        library.clang_EvalResult_dispose(result)


@cache
def _evaluator() -> Any:
    """libclang with the functions its Python binding leaves out declared."""
    import ctypes

    clang = _clang()
    library = clang.conf.lib
    library.clang_Cursor_Evaluate.argtypes = [clang.Cursor]
    library.clang_Cursor_Evaluate.restype = ctypes.c_void_p
    for name, result in (("Kind", ctypes.c_int), ("AsLongLong", ctypes.c_longlong)):
        function = getattr(library, f"clang_EvalResult_get{name}")
        function.argtypes, function.restype = [ctypes.c_void_p], result
    library.clang_EvalResult_dispose.argtypes, library.clang_EvalResult_dispose.restype = [ctypes.c_void_p], None
    return library
