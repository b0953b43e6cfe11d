"""The part of the lint that walks statements: where pragmas stand, what they name, and how often loops run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from toolchain.verification.directives import DIRECTIVES, FOLDED_LIMIT, STREAM_MODES, Place, Pragma, Rule
from toolchain.verification.unit import PROBES, Cursor, Finding, Placed, Unit, evaluate

_DECLARING = frozenset({"DECL_STMT", "NULL_STMT"})


@dataclass
class Probe:
    """A pragma met among the statements of a block, with what clang made of its operands."""

    pragma: Pragma
    at: tuple[str, int]
    variables: list[tuple[str, Cursor]] = field(default_factory=list)
    integers: dict[str, int | None] = field(default_factory=dict)


@dataclass
class Loop:
    """A `for`; `copies` is how often its body stands side by side in hardware, those of loops around it included."""

    trips: int | None
    parent: Loop | None
    pipelined: bool = False
    copies: int = 1

    def inside_pipeline(self) -> bool:
        return self.parent is not None and (self.parent.pipelined or self.parent.inside_pipeline())


class Blocks:
    """Checks the body of one function, as clang instantiated it."""

    def __init__(self, unit: Unit, function: Cursor, *, is_top: bool) -> None:
        self.unit = unit
        self.function = function
        self.is_top = is_top
        self.found: list[Finding] = []

    def check(self) -> list[Finding]:
        for child in self.function.get_children():
            if child.kind.name == "COMPOUND_STMT":
                self._block(child, "function", None)
        return self.found

    def _report(self, at: tuple[str, int] | Cursor, rule: Rule, message: str) -> None:
        place: tuple[str, int] | None = at if isinstance(at, tuple) else self.unit.place(at)
        if place:
            self.found.append(Finding(*place, rule, message))

    def _block(self, block: Cursor, place: Place, loop: Loop | None) -> None:
        """A compound statement. Pragmas come first: those of a loop say how its inner loops are built."""
        statements: list[Cursor] = []
        probes: list[tuple[Probe, bool]] = []
        leading = True
        for child in block.get_children():
            if probe_name(child) is None:
                statements.append(child)
                leading = leading and child.kind.name in _DECLARING and not _declares_variable(child)
            elif (placed := placed_pragma(self.unit, child)) is not None:
                probes.append((Probe(placed.pragma, placed.at), leading))
            elif probes:
                _add_operand(probes[-1][0], child)
        for probe, leads in probes:
            self._pragma(probe, place, loop, leads)
        names = {probe.pragma.directive for probe, _ in probes}
        if {"dataflow", "pipeline"} <= names:
            self._report(block, "placement", "dataflow and pipeline exclude each other in one block")
        for statement in statements:
            self._statement(statement, loop)

    def _statement(self, statement: Cursor, loop: Loop | None) -> None:
        kind = statement.kind.name
        if kind == "FOR_STMT":
            self._for(statement, loop)
        elif kind == "WHILE_STMT":
            self._body(list(statement.get_children())[-1], Loop(None, loop))
        elif kind == "COMPOUND_STMT":
            self._block(statement, "region", loop)
        elif (placed := placed_pragma(self.unit, statement)) is not None:
            self._report(placed.at, "placement", f"{placed.pragma.directive} must stand between braces")
        elif kind == "LAMBDA_EXPR" or not kind.endswith("_EXPR"):
            for child in statement.get_children():
                self._statement(child, loop)

    def _for(self, statement: Cursor, around: Loop | None) -> None:
        trips, reason = trip_count(statement)
        if trips is None and not repeats_dataflow(self.unit, statement):
            self._report(statement, "loop-bound", f"the loop's trip count is not known: {reason}")
        self._body(list(statement.get_children())[-1], Loop(trips, around), statement)

    def _body(self, body: Cursor, loop: Loop, counted: Cursor | None = None) -> None:
        """What a loop repeats; one that is `counted` is unrolled by a pipelined one around it."""
        directives = set(_directives(self.unit, body)) if body.kind.name == "COMPOUND_STMT" else set()
        loop.pipelined = "pipeline" in directives
        loop.copies = loop.parent.copies if loop.parent else 1
        if counted is not None and loop.inside_pipeline() and "unroll" not in directives:
            self._unroll(loop, loop.trips, counted)
        if body.kind.name == "COMPOUND_STMT":
            self._block(body, "loop", loop)
        else:
            self._statement(body, loop)

    def _unroll(self, loop: Loop, factor: int | None, at: tuple[str, int] | Cursor) -> None:
        around = loop.copies
        loop.copies *= factor or 1
        if loop.copies > FOLDED_LIMIT >= around:
            self._report(at, "limit", f"{loop.copies} copies of a loop's body; Vitis HLS makes {FOLDED_LIMIT} at most")

    def _pragma(self, probe: Probe, place: Place, loop: Loop | None, leads: bool) -> None:
        pragma = probe.pragma
        directive = DIRECTIVES.get(pragma.directive)
        if directive is None:
            return
        if place not in directive.places:
            places = " or ".join(sorted(directive.places))
            self._report(probe.at, "placement", f"{pragma.directive} stands in a {place}, it belongs to a {places}")
        elif directive.leads and not leads:
            self._report(probe.at, "placement", f"{pragma.directive} must come before the statements of its block")
        for name, value in probe.integers.items():
            least = directive.options[name].least
            if value is None:
                self._report(probe.at, "value", f"{pragma.directive}: {name} is not constant")
            elif value < least:
                self._report(probe.at, "value", f"{pragma.directive}: {name} is {value}, it must be {least} at least")
        if pragma.directive == "unroll" and loop is not None:
            factor = probe.integers.get("factor") if pragma.value("factor") else loop.trips
            if pragma.value("off") is None:
                self._unroll(loop, factor, probe.at)
        if pragma.directive == "interface":
            self._interface(probe)
        for _, variable in probe.variables:
            self._variable(probe, variable)

    def _variable(self, probe: Probe, variable: Cursor) -> None:
        name, directive = variable.spelling, probe.pragma.directive
        if directive in {"array_partition", "array_reshape"}:
            sizes = array_sizes(variable.type)
            if not sizes:
                self._report(probe.at, "variable", f"{directive}: {name} is no array")
            else:
                self._partition(probe, name, sizes)
        elif directive == "stream":
            if not is_stream(variable.type) and not array_sizes(variable.type):
                self._report(probe.at, "variable", f"stream: {name} is neither an hls::stream nor an array")
            if variable.referenced is not None and variable.referenced.kind.name == "PARM_DECL":
                self._report(probe.at, "variable", f"stream: {name} is an argument, its depth is set where it is made")
        elif directive == "bind_storage" and not array_sizes(variable.type) and not is_stream(variable.type):
            self._report(probe.at, "variable", f"bind_storage: {name} is no array")

    def _partition(self, probe: Probe, name: str, sizes: list[int]) -> None:
        pragma = probe.pragma
        dim = probe.integers.get("dim", 1)
        if dim is None:
            return
        if dim > len(sizes):
            self._report(probe.at, "value", f"{pragma.directive}: {name} has no dimension {dim}")
            return
        if (pragma.value("type") or "complete").lower() == "complete":
            parts = 1
            for size in sizes if dim == 0 else sizes[dim - 1 : dim]:
                parts *= size
        else:
            parts = probe.integers.get("factor") or 1
        if parts > FOLDED_LIMIT:
            text = f"{pragma.directive}: {name} falls into {parts} parts; Vitis HLS makes {FOLDED_LIMIT} at most"
            self._report(probe.at, "limit", text)

    def _interface(self, probe: Probe) -> None:
        if not self.is_top:
            self._report(probe.at, "interface", "interface belongs to the top function only")
            return
        mode = (probe.pragma.value("mode") or "").lower()
        for _, port in probe.variables:
            if port.referenced is None or port.referenced.kind.name != "PARM_DECL":
                self._report(probe.at, "interface", f"port {port.spelling} is no argument of the top function")
            elif is_stream(port.type) != (mode in STREAM_MODES):
                self._report(probe.at, "interface", f"mode {mode} does not fit the type of port {port.spelling}")


def probe_name(statement: Cursor) -> str | None:
    """Which of the probes of `unit.py` a statement calls, if any."""
    call = stripped(statement)
    if call is None or call.kind.name != "CALL_EXPR" or call.referenced is None:
        return None
    parent = call.referenced.semantic_parent
    return str(call.spelling) if parent is not None and parent.spelling == PROBES else None


def placed_pragma(unit: Unit, statement: Cursor) -> Placed | None:
    """The pragma that a statement stands for, if any."""
    if probe_name(statement) != "pragma":
        return None
    call = stripped(statement)
    number = evaluate(next(call.get_arguments())) if call is not None else None
    return unit.pragmas[number] if number is not None else None


def stripped(cursor: Cursor) -> Cursor | None:
    """An expression without the conversions around it."""
    while cursor is not None and cursor.kind.name == "UNEXPOSED_EXPR":
        cursor = next(cursor.get_children(), None)
    return cursor


def _add_operand(probe: Probe, statement: Cursor) -> None:
    call = stripped(statement)
    if call is None:
        return
    label, operand = list(call.get_arguments())
    name = next(label.walk_preorder(), label)
    text = next((c.spelling for c in name.walk_preorder() if c.kind.name == "STRING_LITERAL"), "").strip('"')
    if call.spelling == "variable":
        if (target := stripped(operand)) is not None:
            probe.variables.append((text, target))
    else:
        probe.integers[text] = evaluate(operand)


def _directives(unit: Unit, block: Cursor) -> Iterator[str]:
    for child in block.get_children():
        placed = placed_pragma(unit, child)
        if placed is not None and placed.pragma.value("off") is None:
            yield placed.pragma.directive


def _declares_variable(statement: Cursor) -> bool:
    return any(child.kind.name == "VAR_DECL" for child in statement.get_children())


def is_stream(type: Cursor) -> bool:
    """Whether a variable is an hls::stream or a reference to one."""
    canonical = type.get_canonical()
    if canonical.kind.name in {"LVALUEREFERENCE", "RVALUEREFERENCE"}:
        canonical = canonical.get_pointee()
    return bool(canonical.spelling.startswith("hls::stream<"))


def array_sizes(type: Cursor) -> list[int]:
    """The dimensions of an array or of a reference to one, outermost first."""
    sizes = []
    type = type.get_canonical()
    if type.kind.name == "LVALUEREFERENCE":
        type = type.get_pointee()
    while type.kind.name == "CONSTANTARRAY":
        sizes.append(int(type.element_count))
        type = type.element_type
    return sizes


def trip_count(statement: Cursor) -> tuple[int | None, str]:
    """How often a `for` runs, or why that is not known: start, bound and step must be constants."""
    parts = list(statement.get_children())
    if len(parts) != 4:
        return None, "it must have a start, a condition and a step"
    start, condition, step, body = parts
    declared = [child for child in start.get_children() if child.kind.name == "VAR_DECL"]
    if start.kind.name != "DECL_STMT" or len(declared) != 1:
        return None, "it must declare one counter"
    counter = declared[0]
    first = evaluate(counter)
    if first is None:
        return None, "the counter's first value is not constant"
    if condition.kind.name != "BINARY_OPERATOR":
        return None, "the condition must compare the counter with a constant"
    left, right = condition.get_children()
    bound, amount = evaluate(right), _step(step, counter)
    if not _refers(left, counter) or bound is None:
        return None, "the condition must compare the counter with a constant"
    if not amount:
        return None, "the step must add a constant to the counter"
    if any(_changes(cursor, counter) for cursor in body.walk_preorder()):
        return None, "the body changes the counter"
    return _trips(first, _operator(condition, left), bound, amount)


def repeats_dataflow(unit: Unit, statement: Cursor) -> bool:
    """Is it `for (i = 0; i < an argument; ++i)` around a dataflow region? Vitis HLS overlaps its iterations."""
    parts = list(statement.get_children())
    if len(parts) != 4 or parts[3].kind.name != "COMPOUND_STMT" or "dataflow" not in _directives(unit, parts[3]):
        return False
    start, condition, step, body = parts
    counter = next((child for child in start.get_children() if child.kind.name == "VAR_DECL"), None)
    if counter is None or evaluate(counter) != 0 or condition.kind.name != "BINARY_OPERATOR":
        return False
    left, right = condition.get_children()
    bound = stripped(right)
    return (
        _refers(left, counter)
        and _operator(condition, left) == "<"
        and bound is not None
        and bound.referenced is not None
        and bound.referenced.kind.name == "PARM_DECL"
        and _step(step, counter) == 1
        and not any(_changes(cursor, counter) for cursor in body.walk_preorder())
    )


def _trips(first: int, operator: str, bound: int, step: int) -> tuple[int | None, str]:
    if operator == "!=" and (bound - first) % step == 0 and (bound - first) // step >= 0:
        return (bound - first) // step, ""
    if operator in {"<", "<="} and step > 0:
        span = bound - first + (operator == "<=")
        return max(0, -(-span // step)), ""
    if operator in {">", ">="} and step < 0:
        span = first - bound + (operator == ">=")
        return max(0, -(-span // -step)), ""
    return None, f"counting by {step} while it is {operator} {bound} does not end"


def _operator(binary: Cursor, left: Cursor) -> str:
    end = left.extent.end.offset
    return next((str(token.spelling) for token in binary.get_tokens() if token.extent.start.offset >= end), "")


def _step(step: Cursor, counter: Cursor) -> int | None:
    children = list(step.get_children())
    if not children or not _refers(children[0], counter):
        return None
    tokens = {token.spelling for token in step.get_tokens()}
    if step.kind.name == "UNARY_OPERATOR":
        return 1 if "++" in tokens else -1 if "--" in tokens else None
    if step.kind.name == "COMPOUND_ASSIGNMENT_OPERATOR" and (amount := evaluate(children[1])) is not None:
        return amount if "+=" in tokens else -amount if "-=" in tokens else None
    return None


def _refers(cursor: Cursor, variable: Cursor) -> bool:
    target = stripped(cursor)
    if target is None or target.kind.name != "DECL_REF_EXPR" or target.referenced is None:
        return False
    return bool(target.referenced == variable)


def _changes(cursor: Cursor, counter: Cursor) -> bool:
    kind = cursor.kind.name
    if kind not in {"BINARY_OPERATOR", "COMPOUND_ASSIGNMENT_OPERATOR", "UNARY_OPERATOR"}:
        return False
    children = list(cursor.get_children())
    if not children or not _refers(children[0], counter):
        return False
    if kind == "COMPOUND_ASSIGNMENT_OPERATOR":
        return True
    if kind == "UNARY_OPERATOR":
        return bool({"++", "--", "&"} & {token.spelling for token in cursor.get_tokens()})
    return _operator(cursor, children[0]) == "="
