"""The HLS directives that Vitis HLS takes, as data, and the reading of one pragma's text.

Sources: AMD UG1399, Vitis High-Level Synthesis User Guide, 'HLS Pragmas and Directives' (2020.2 to 2025.2), and the
tables of the tool's own front end, github.com/Xilinx/hls-llvm-project, `clang/include/clang/Basic/XlxPragmaOption.td`
and `clang/lib/Parse/ParseXlxPragma.cpp`. What those call deprecated or unsupported is left out on purpose: `resource`,
`data_pack`, `shared`, `inline region`, `stream off`, `pipeline enable_flush`, `interface ap_bus`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Rule = Literal[
    "dataflow",  # the top function is a network of processes and nothing else
    "directive",  # a pragma's directive exists
    "dynamic-memory",  # no new, malloc or containers
    "exception",
    "floating-point",
    "function-pointer",
    "interface",  # every port of the top function has one interface that fits its type
    "library",  # nothing is called that cannot be synthesized
    "limit",  # no more unrolling and partitioning than the tool does
    "loop-bound",  # trip counts are constants
    "loop-kind",  # for loops only
    "option",  # a directive's options exist, go together, and none is missing
    "placement",  # a pragma stands where it takes effect
    "recursion",
    "state",  # nothing but constants outlives a call
    "stream",  # one producer and one consumer, in this order
    "syntax",  # clang compiles it
    "value",  # an option's value is one that it takes
    "variable",  # what a pragma names is visible and of the right kind
    "virtual",
    "width",  # no word is wider than the vendor's types
]
RULES: tuple[Rule, ...] = get_args(Rule)
Fault = tuple[Rule, str]
"""What is broken, and a sentence on how."""

Place = Literal["function", "loop", "region"]
"""Where a pragma stands: directly in a function's body, directly in a loop's body, in any other block."""

Kind = Literal["variable", "function", "integer", "number", "word", "name", "flag"]


@dataclass(frozen=True)
class Option:
    """An option of a directive. `values` of a `word`; with `bare`, a value may stand alone: `complete`."""

    kind: Kind
    required: bool = False
    values: frozenset[str] = frozenset()
    bare: bool = False
    least: int = 0


@dataclass(frozen=True)
class Directive:
    """`places` where it may stand, its options, and whether it must come before all statements of its block."""

    places: frozenset[Place]
    options: Mapping[str, Option]
    leads: bool = False


def _word(values: str, *, required: bool = False, bare: bool = False) -> Option:
    return Option("word", required, frozenset(values.split()), bare)


VARIABLE = Option("variable", required=True)
INTEGER = Option("integer")
POSITIVE = Option("integer", least=1)
FLAG = Option("flag")
NAME = Option("name")
FUNCTION: frozenset[Place] = frozenset({"function"})
LOOP: frozenset[Place] = frozenset({"loop"})
TASK: frozenset[Place] = frozenset({"function", "loop"})
BLOCK: frozenset[Place] = frozenset({"region"})
ANYWHERE: frozenset[Place] = frozenset({"function", "loop", "region"})

_ARRAY = {
    "variable": VARIABLE,
    "type": _word("block cyclic complete", bare=True),
    "factor": POSITIVE,
    "dim": INTEGER,
    "off": FLAG,
}
_OPERATIONS = (
    "mul add sub fadd fsub fdiv fexp flog fmul frsqrt frecip fsqrt dadd dsub ddiv dexp dlog dmul drsqrt drecip dsqrt "
    "hadd hsub hdiv hmul hsqrt facc fmacc fmadd"
)
_MODES = (
    "ap_none ap_vld ap_ack ap_hs ap_ovld ap_fifo ap_memory bram axis s_axilite m_axi ap_ctrl_none ap_ctrl_hs "
    "ap_ctrl_chain ap_stable"
)

DIRECTIVES: Mapping[str, Directive] = {
    "aggregate": Directive(ANYWHERE, {"variable": VARIABLE, "compact": _word("bit byte none auto", bare=True)}),
    "alias": Directive(FUNCTION, {"ports": VARIABLE, "offset": NAME, "distance": INTEGER}),
    "allocation": Directive(
        ANYWHERE,
        {
            "type": _word("function operation", required=True, bare=True),
            "instances": Option("name", required=True),
            "limit": Option("integer", required=True, least=1),
        },
    ),
    "array_partition": Directive(ANYWHERE, _ARRAY),
    "array_reshape": Directive(ANYWHERE, {**_ARRAY, "object": FLAG}),
    "array_stencil": Directive(ANYWHERE, {"variable": VARIABLE, "off": FLAG}),
    "bind_op": Directive(
        ANYWHERE,
        {
            "variable": VARIABLE,
            "op": _word(_OPERATIONS, required=True),
            "impl": _word("dsp fabric meddsp fulldsp maxdsp primitivedsp auto none"),
            "latency": Option("integer", least=-1),
        },
    ),
    "bind_storage": Directive(
        ANYWHERE,
        {
            "variable": VARIABLE,
            "type": _word("fifo ram_1p ram_1wnr ram_2p ram_s2p ram_t2p rom_1p rom_2p rom_np", required=True),
            "impl": _word("bram bram_ecc lutram uram uram_ecc srl memory auto"),
            "latency": Option("integer", least=-1),
        },
    ),
    "cache": Directive(
        FUNCTION, {"port": VARIABLE, "lines": POSITIVE, "depth": POSITIVE, "ports": POSITIVE, "l2_lines": POSITIVE}
    ),
    "dataflow": Directive(TASK, {"disable_start_propagation": FLAG}, leads=True),
    "dependence": Directive(
        ANYWHERE,
        {
            "variable": Option("variable"),
            "class": _word("array pointer", bare=True),
            "type": _word("inter intra", bare=True),
            "direction": _word("raw war waw", bare=True),
            "distance": POSITIVE,
            "dependent": _word("true false", bare=True),
        },
    ),
    "disaggregate": Directive(ANYWHERE, {"variable": VARIABLE}),
    "expression_balance": Directive(ANYWHERE, {"off": FLAG}),
    "function_instantiate": Directive(FUNCTION, {"variable": VARIABLE}),
    "inline": Directive(FUNCTION, {"recursive": FLAG, "off": FLAG}),
    "interface": Directive(
        FUNCTION,
        {
            "mode": _word(_MODES, required=True, bare=True),
            "port": VARIABLE,
            "name": NAME,
            "bundle": NAME,
            "register": FLAG,
            "register_mode": _word("both forward reverse off"),
            "depth": POSITIVE,
            "offset": NAME,
            "clock": NAME,
            "latency": INTEGER,
            "channel": NAME,
            "storage_type": NAME,
            "storage_impl": NAME,
            "address_mode": _word("byte word"),
            "interrupt": INTEGER,
            "direct_io": _word("true false"),
            "num_read_outstanding": POSITIVE,
            "num_write_outstanding": POSITIVE,
            "max_read_burst_length": POSITIVE,
            "max_write_burst_length": POSITIVE,
            "max_widen_bitwidth": INTEGER,
        },
        leads=True,
    ),
    "latency": Directive(ANYWHERE, {"min": INTEGER, "max": INTEGER}),
    "loop_flatten": Directive(LOOP, {"off": FLAG}),
    "loop_merge": Directive(ANYWHERE, {"force": FLAG}),
    "loop_tripcount": Directive(LOOP, {"min": INTEGER, "max": Option("integer", required=True), "avg": INTEGER}),
    "occurrence": Directive(BLOCK, {"cycle": POSITIVE}),
    "performance": Directive(
        TASK, {"target_ti": Option("number"), "target_tl": Option("number"), "unit": _word("cycle sec")}
    ),
    "pipeline": Directive(TASK, {"ii": POSITIVE, "rewind": FLAG, "off": FLAG, "style": _word("stp flp frp")}),
    "protocol": Directive(BLOCK, {"mode": _word("floating fixed", bare=True)}),
    "reset": Directive(ANYWHERE, {"variable": VARIABLE, "off": FLAG}),
    "stable": Directive(FUNCTION, {"variable": VARIABLE}),
    "stream": Directive(ANYWHERE, {"variable": VARIABLE, "depth": POSITIVE, "type": _word("fifo pipo shared unsync")}),
    "top": Directive(FUNCTION, {"name": NAME}),
    "unroll": Directive(LOOP, {"factor": POSITIVE, "skip_exit_check": FLAG, "off": FLAG}),
}

_SCALAR = {"mode", "port", "name", "register", "depth", "latency", "direct_io"}
_MEMORY = {"mode", "port", "name", "depth", "latency", "storage_type", "address_mode"}
_CONTROL = {"mode", "port", "name"}
INTERFACE_OPTIONS: Mapping[str, frozenset[str]] = {
    "axis": frozenset({"mode", "port", "name", "register", "register_mode", "depth"}),
    "s_axilite": frozenset({"mode", "port", "name", "bundle", "register", "offset", "clock", "storage_impl"}),
    "m_axi": frozenset(
        set(DIRECTIVES["interface"].options)
        - {"register_mode", "clock", "storage_type", "storage_impl", "address_mode", "interrupt", "direct_io"}
    ),
    **dict.fromkeys(("ap_memory", "bram"), frozenset(_MEMORY)),
    **dict.fromkeys(("ap_none", "ap_vld", "ap_ack", "ap_fifo", "ap_stable"), frozenset(_SCALAR)),
    **dict.fromkeys(("ap_hs", "ap_ovld"), frozenset({*_SCALAR, "interrupt"})),
    **dict.fromkeys(("ap_ctrl_none", "ap_ctrl_hs", "ap_ctrl_chain"), frozenset(_CONTROL)),
}
"""The options of `interface` that each mode takes."""

STREAM_MODES = frozenset({"axis", "ap_fifo"})
"""The modes of `interface` for an argument of type hls::stream."""

FOLDED_LIMIT = 4096
"""Vitis HLS neither unrolls a loop nor splits an array into more parts."""

WORD_LIMIT = 4096
"""The largest AP_INT_MAX_W: UG1399, 'Overview of Arbitrary Precision Integer Data Types'."""


@dataclass(frozen=True)
class Pragma:
    """One pragma: `options` are (name, value) in lower case but for the value; a flag's or bare word's value is ''."""

    directive: str
    options: tuple[tuple[str, str], ...]

    def value(self, name: str) -> str | None:
        """What an option is set to, by name or as a bare word; None where it is not given."""
        directive = DIRECTIVES.get(self.directive)
        option = directive.options.get(name) if directive else None
        for given, value in self.options:
            if given == name:
                return value
            if option is not None and option.bare and not value and given in option.values:
                return given
        return None


_TOKEN = re.compile(r"(?:::)?[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*(?:\.\w+)*|\d[\w.]*|<<|>>|==|[-+*/%()?:,<>&|!~=]|\S")
_OPERATOR = frozenset(["+", "-", "*", "/", "%", "<<", ">>", "?", ":", ",", "<", ">", "&", "|", "==", "("])


def parse_pragma(text: str) -> Pragma | None:
    """Reads what follows `#pragma HLS`; None when it is empty."""
    tokens = _TOKEN.findall(text)
    if not tokens:
        return None
    options: list[tuple[str, str]] = []
    position = 1
    while position < len(tokens):
        name = tokens[position].lower()
        position += 1
        if position < len(tokens) and tokens[position] == "=":
            end = _end_of_value(tokens, position + 1)
            options.append((name, " ".join(tokens[position + 1 : end])))
            position = end
        else:
            options.append((name, ""))
    return Pragma(tokens[0].lower(), tuple(options))


def _end_of_value(tokens: Sequence[str], position: int) -> int:
    """Where the expression that begins here ends: two operands side by side belong to different options."""
    depth, operand = 0, False
    while position < len(tokens):
        word = tokens[position]
        if word == ")":
            depth -= 1
            operand = True
        elif word in _OPERATOR or word in {"!", "~"}:
            depth += word == "("
            operand = False
        elif operand and not depth:
            break
        else:
            operand = True
        position += 1
    return position


def check_pragma(pragma: Pragma) -> list[Fault]:
    """(rule, message) of everything that is wrong with the text alone: names, values, what is missing or twice."""
    name = pragma.directive
    directive = DIRECTIVES.get(name)
    if directive is None:
        return [("directive", f"{name!r} is no directive of Vitis HLS{_close(name, DIRECTIVES)}")]
    found: list[Fault] = []
    bare = {word: key for key, option in directive.options.items() if option.bare for word in option.values}
    seen: set[str] = set()
    for given, value in pragma.options:
        key = bare.get(given, given) if not value else given
        option = directive.options.get(key)
        if option is None:
            known = [*directive.options, *bare]
            found.append(("option", f"{name} has no option {given!r}{_close(given, known)}"))
            continue
        if key in seen:
            found.append(("option", f"{name} sets {key} twice"))
        seen.add(key)
        found += [("value", f"{name}: {text}") for text in _check_value(key, option, given, value)]
    missing = [key for key, option in directive.options.items() if option.required and key not in seen]
    found += [("option", f"{name} needs {key}=") for key in missing]
    if not missing:
        found += [("option", f"{name}: {text}") for text in _check_combination(pragma)]
    return found


def _check_value(key: str, option: Option, given: str, value: str) -> list[str]:
    if option.kind == "flag":
        return [] if value.lower() in {"", "true", "false"} else [f"{key} takes no value"]
    if option.bare and given in option.values and not value:
        return []
    if not value:
        return [f"{key} needs a value"]
    if option.kind == "word" and value.lower() not in option.values:
        return [f"{key} cannot be {value!r}{_close(value.lower(), option.values)}"]
    return []


def _check_combination(pragma: Pragma) -> list[str]:
    """What single options cannot tell; all required options are there."""
    found = []
    if pragma.directive in {"array_partition", "array_reshape"}:
        complete = (pragma.value("type") or "complete").lower() == "complete"
        if complete == (pragma.value("factor") is not None):
            found.append("type=complete takes no factor" if complete else "type=block and type=cyclic need factor=")
    if pragma.directive == "interface":
        mode = (pragma.value("mode") or "").lower()
        taken = INTERFACE_OPTIONS.get(mode, frozenset())
        extra = [key for key, value in pragma.options if key not in taken and (value or key != mode)]
        found += [f"mode {mode} takes no {key}" for key in extra if taken]
    if pragma.directive == "dependence" and (pragma.value("distance") is None) == (
        (pragma.value("dependent") or "false").lower() == "true" and (pragma.value("type") or "inter") == "inter"
    ):
        found.append("distance= goes with a true dependence between iterations, and only with that")
    if pragma.directive == "pipeline" and pragma.value("rewind") is not None:
        style = (pragma.value("style") or "stp").lower()
        found += [f"rewind and style={style} exclude each other"] if style != "stp" else []
    return found


def _close(name: str, known: Sequence[str] | Mapping[str, object] | frozenset[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
