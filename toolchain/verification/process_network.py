"""The part of the lint that reads the top function as a network: one producer and one consumer a stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from toolchain.verification.blocks import is_stream, placed_pragma, probe_name, repeats_dataflow, stripped
from toolchain.verification.unit import Cursor, Finding, Function, Unit

_READS = frozenset({"read", "read_nb", "read_dep"})
_WRITES = frozenset({"write", "write_nb", "write_dep"})


def frame_function(unit: Unit, top: Cursor, functions: Mapping[str, Function]) -> Cursor:
    """The function that holds the network, in a loop over frames: the top function calls it."""
    called = (definition for _, definition in functions[top.mangled_name].calls)
    return next((one for one in called if one.spelling == f"{unit.top}_frames"), top)


def check_top(unit: Unit, top: Cursor, functions: Mapping[str, Function]) -> Iterator[Finding]:
    """Dataflow in canonical form, every argument with its interface, every stream with its two ends, in order."""
    at_top = unit.place(top)
    assert at_top is not None
    yield from _interfaces(unit, top, at_top)
    frame = frame_function(unit, top, functions)
    if not _is_dataflow(unit, frame):
        yield Finding(*at_top, "dataflow", f"{frame.spelling} has no dataflow pragma")
    yield from _network(unit, frame, functions)
    for function in functions.values():  # those of the loader that are generated
        at = unit.place(function.cursor)
        if at is not None and at[0] == at_top[0] and function.cursor != frame and _is_dataflow(unit, function.cursor):
            yield from _network(unit, function.cursor, functions)


def _is_dataflow(unit: Unit, function: Cursor) -> bool:
    placed = (placed_pragma(unit, child) for child in _body(unit, function).get_children())
    return any(one is not None and one.pragma.directive == "dataflow" for one in placed)


def _body(unit: Unit, function: Cursor) -> Cursor:
    """The block of a function's processes: its own, or that of the loop over frames which is all it consists of."""
    block = next(child for child in function.get_children() if child.kind.name == "COMPOUND_STMT")
    inside = [child for child in block.get_children() if child.kind.name != "NULL_STMT"]
    while len(inside) == 1 and inside[0].kind.name == "LABEL_STMT":
        inside = list(inside[0].get_children())
    if len(inside) == 1 and inside[0].kind.name == "FOR_STMT" and repeats_dataflow(unit, inside[0]):
        return list(inside[0].get_children())[-1]
    return block


def _network(unit: Unit, top: Cursor, functions: Mapping[str, Function]) -> Iterator[Finding]:
    body = _body(unit, top)
    ends: dict[str, list[tuple[str, tuple[str, int]]]] = defaultdict(list)
    streams: dict[str, Cursor] = {p.spelling: p for p in top.get_arguments() if is_stream(p.type)}
    directions = Directions(functions)
    for child in body.get_children():
        place = unit.place(child)
        if place is None or probe_name(child) is not None or child.kind.name == "NULL_STMT":
            continue
        if child.kind.name == "DECL_STMT":
            streams |= {v.spelling: v for v in child.get_children() if v.kind.name == "VAR_DECL" and is_stream(v.type)}
            continue
        call = _call(child)
        if call is None:
            yield Finding(*place, "dataflow", "a dataflow region holds declarations and calls, nothing else")
            continue
        if call.type.spelling != "void":
            yield Finding(*place, "dataflow", f"{call.spelling} returns a value inside a dataflow region")
        yield from _arguments(call, place)
        for argument, used in zip(call.get_arguments(), directions.of(call.referenced), strict=False):
            name = _name(argument)
            ends[name] += [(direction, place) for direction in sorted(used) if name in streams]
    for name, stream in streams.items():
        yield from _stream(unit, name, stream, ends[name])


def _interfaces(unit: Unit, top: Cursor, at: tuple[str, int]) -> Iterator[Finding]:
    ports: dict[str, list[str]] = defaultdict(list)
    for placed in unit.pragmas:
        if placed.pragma.directive == "interface":
            for port in (placed.pragma.value("port") or "").split(","):
                ports[port.strip()].append((placed.pragma.value("mode") or "").lower())
    for name in [*(parameter.spelling for parameter in top.get_arguments()), "return"]:
        modes = ports[name]
        if sorted(modes) == ["m_axi", "s_axilite"]:  # a master, and the register with its address
            continue
        if len(modes) != 1:
            yield Finding(*at, "interface", f"port {name} has {len(modes) or 'no'} interface pragma(s), it needs one")


def _call(statement: Cursor) -> Cursor | None:
    call = stripped(statement)
    if call is None or call.kind.name != "CALL_EXPR" or call.referenced is None:
        return None
    return call if call.referenced.kind.name == "FUNCTION_DECL" else None


def _name(argument: Cursor) -> str:
    target = stripped(argument)
    return str(target.spelling) if target is not None and target.kind.name == "DECL_REF_EXPR" else ""


def _arguments(call: Cursor, place: tuple[str, int]) -> Iterator[Finding]:
    for argument in call.get_arguments():
        if not _name(argument):
            yield Finding(*place, "dataflow", f"an argument of {call.spelling} is no plain variable")


def _stream(unit: Unit, name: str, stream: Cursor, ends: list[tuple[str, tuple[str, int]]]) -> Iterator[Finding]:
    place = unit.place(stream)
    if place is None:
        return
    readers = [at for direction, at in ends if direction == "read"]
    writers = [at for direction, at in ends if direction == "write"]
    if stream.kind.name == "PARM_DECL":
        if len(readers) + len(writers) != 1:
            yield Finding(
                *place, "stream", f"port {name} is used by {len(readers) + len(writers)} processes, not by one"
            )
        return
    if len(writers) != 1:
        yield Finding(*place, "stream", f"{name} has {len(writers)} producers, not one")
    if len(readers) != 1:
        yield Finding(*place, "stream", f"{name} has {len(readers)} consumers, not one")
    if writers and readers and readers[0][1] <= writers[0][1]:
        yield Finding(*readers[0], "stream", f"{name} is read before the process that writes it")


class Directions:
    """What functions do with the streams they are given: read them, write them, or both."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions
        self._known: dict[str, list[set[str]]] = {}

    def of(self, function: Cursor) -> list[set[str]]:
        """A set of 'read' and 'write' for every parameter."""
        key = function.mangled_name
        if key in self._known or key not in self._functions:
            return self._known.get(key, [])
        parameters = list(function.get_arguments())
        used = self._known[key] = [set() for _ in parameters]
        for cursor in self._functions[key].nodes:
            if cursor.kind.name == "MEMBER_REF_EXPR" and (direction := _direction(cursor.spelling)):
                for base in cursor.walk_preorder():
                    named = base.referenced if base.kind.name == "DECL_REF_EXPR" and is_stream(base.type) else None
                    if named is not None and named in parameters:
                        used[parameters.index(named)].add(direction)
        for call, called in self._functions[key].calls:
            for argument, inner in zip(call.get_arguments(), self.of(called), strict=False):
                target = stripped(argument)
                if (named := target and target.referenced) is not None and named in parameters:
                    used[parameters.index(named)] |= inner
        return used


def _direction(method: str) -> str:
    return "read" if method in _READS else "write" if method in _WRITES else ""
