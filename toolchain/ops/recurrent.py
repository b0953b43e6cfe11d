"""LSTM, GRU and RNN, unrolled over a sequence of known length.

The products with the inputs are one matrix for all steps; each step adds the product with the state before it. Gates
are tables, and what joins them are exact products and sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.ir import Array, Constant
from toolchain.ops.add import Add
from toolchain.ops.affine import add_affine
from toolchain.ops.base import importer
from toolchain.ops.clip import Clip
from toolchain.ops.concat import Concat
from toolchain.ops.gemm import Gemm
from toolchain.ops.product import Product
from toolchain.ops.reshape import Reshape
from toolchain.ops.slice import Slice
from toolchain.ops.table import Sigmoid, Tanh

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.ops.base import Operator

MOST_STEPS = 512


@dataclass(frozen=True)
class Cell:
    """One direction of a layer. Weights are (inputs, gates * hidden), the gates in ONNX's order."""

    importing: Importer
    node: OnnxNode
    hidden: int
    part: str
    weights: Array
    recurrent: Array
    bias: Array
    recurrent_bias: Array
    peephole: Array

    def add(self, operator: Operator, *inputs: str, name: str) -> str:
        return self.importing.add(self.node, operator, *inputs, part=f"{self.part}_{name}")

    def gate(self, value: str, first: int, count: int, name: str) -> str:
        """`count` gates from `first` on."""
        return self.add(Slice((first * self.hidden,), (1,), (count * self.hidden,)), value, name=name)

    @property
    def is_linear(self) -> bool:
        """Does a GRU multiply by the reset gate behind the matrix, the bias included?"""
        return self.node.op_type == "GRU" and bool(self.node.attribute("linear_before_reset", 0))

    def inputs(self, value: str) -> str:
        """The products of all steps with the inputs, (steps, gates * hidden), and all biases that are added to them."""
        outside = np.arange(len(self.bias)) < 2 * self.hidden if self.is_linear else np.ones(len(self.bias))
        bias = self.bias + self.recurrent_bias * outside
        return self.add(Gemm(Constant(self.weights), Constant(bias)), value, name="inputs")

    def at(self, inputs: str, step: int) -> str:
        width = self.weights.shape[1]
        row = self.add(Slice((step, 0), (1, 1), (1, width)), inputs, name=f"inputs{step}")
        return self.add(Reshape((width,)), row, name=f"input{step}")

    def fed_back(self, state: str, matrix: Array, bias: Array, name: str) -> str:
        return self.add(Gemm(Constant(matrix), Constant(bias)), state, name=name)


State = tuple[str | None, str | None]
"""What a step gives to the next: its output h and, of an LSTM, its memory c. Before the first both are 0."""
Step = Callable[[Cell, str, State, int], State]


def lstm_step(cell: Cell, given: str, past: State, step: int) -> State:
    """Gates are input, output, forget and the candidate: c' = f c + i g, h' = o tanh(c')."""
    state, memory = past
    if state is not None:
        zeros = np.zeros(4 * cell.hidden)
        given = cell.add(Add(), given, cell.fed_back(state, cell.recurrent, zeros, f"state{step}"), name=f"sum{step}")
    if cell.peephole.any():
        return _with_peepholes(cell, given, memory, step)
    gates = cell.add(Sigmoid(), cell.gate(given, 0, 3, f"gate_sums{step}"), name=f"gates{step}")
    candidate = cell.add(Tanh(), cell.gate(given, 3, 1, f"candidate_sum{step}"), name=f"candidate{step}")
    fresh = cell.add(Product(), cell.gate(gates, 0, 1, f"in{step}"), candidate, name=f"fresh{step}")
    if memory is not None:
        kept = cell.add(Product(), cell.gate(gates, 2, 1, f"forget{step}"), memory, name=f"kept{step}")
        fresh = cell.add(Add(), kept, fresh, name=f"memory{step}")
    shown = cell.add(Tanh(), fresh, name=f"shown{step}")
    return cell.add(Product(), cell.gate(gates, 1, 1, f"out{step}"), shown, name=f"h{step}"), fresh


def _with_peepholes(cell: Cell, given: str, memory: str | None, step: int) -> State:
    """The same where gates also see the memory, the output gate the new one."""

    def seen(gate: int, seeing: str | None, name: str) -> str:
        weights = np.split(cell.peephole, 3)[gate]
        total = cell.gate(given, gate, 1, f"{name}_sum{step}")
        if seeing is not None:
            part = f"{cell.part}_{name}_seen{step}"
            peeped = add_affine(cell.importing, cell.node, seeing, weights, np.zeros(1), part=part)
            total = cell.add(Add(), total, peeped, name=f"{name}_total{step}")
        return cell.add(Sigmoid(), total, name=f"{name}{step}")

    candidate = cell.add(Tanh(), cell.gate(given, 3, 1, f"candidate_sum{step}"), name=f"candidate{step}")
    fresh = cell.add(Product(), seen(0, memory, "in"), candidate, name=f"fresh{step}")
    if memory is not None:
        kept = cell.add(Product(), seen(2, memory, "forget"), memory, name=f"kept{step}")
        fresh = cell.add(Add(), kept, fresh, name=f"memory{step}")
    shown = cell.add(Tanh(), fresh, name=f"shown{step}")
    return cell.add(Product(), seen(1, fresh, "out"), shown, name=f"h{step}"), fresh


def gru_step(cell: Cell, given: str, past: State, step: int) -> State:
    """Gates are update z, reset r and the candidate n: h' = n + z (h - n)."""
    state, _ = past
    size, recurrent = cell.hidden, cell.recurrent
    linear = cell.is_linear
    sums, candidate = cell.gate(given, 0, 2, f"gate_sums{step}"), cell.gate(given, 2, 1, f"candidate_in{step}")
    if state is not None:
        fed = cell.fed_back(state, recurrent[:, : 2 * size], np.zeros(2 * size), f"state{step}")
        sums = cell.add(Add(), sums, fed, name=f"sum{step}")
    gates = cell.add(Sigmoid(), sums, name=f"gates{step}")
    reset = cell.gate(gates, 1, 1, f"reset{step}")
    last, offset = recurrent[:, 2 * size :], cell.recurrent_bias[2 * size :]
    if linear and state is not None:
        fed = cell.fed_back(state, last, offset, f"candidate_state{step}")
        candidate = cell.add(Add(), candidate, cell.add(Product(), reset, fed, name=f"past{step}"), name=f"total{step}")
    elif linear and offset.any():
        fed = add_affine(cell.importing, cell.node, reset, offset, np.zeros(1), part=f"{cell.part}_past{step}")
        candidate = cell.add(Add(), candidate, fed, name=f"total{step}")
    elif not linear and state is not None:
        kept = cell.add(Product(), reset, state, name=f"past{step}")
        fed = cell.fed_back(kept, last, np.zeros(size), f"candidate_state{step}")
        candidate = cell.add(Add(), candidate, fed, name=f"total{step}")
    fresh = cell.add(Tanh(), candidate, name=f"candidate{step}")
    update = cell.gate(gates, 0, 1, f"update{step}")
    if state is None:
        rest = cell.add(Product(), update, fresh, name=f"rest{step}")
        return cell.add(Add(subtract=True), fresh, rest, name=f"h{step}"), None
    change = cell.add(Add(subtract=True), state, fresh, name=f"change{step}")
    rest = cell.add(Product(), update, change, name=f"rest{step}")
    return cell.add(Add(), fresh, rest, name=f"h{step}"), None


def rnn_step(cell: Cell, given: str, past: State, step: int) -> State:
    """h' = tanh(W x + R h), or Relu."""
    state, _ = past
    if state is not None:
        fed = cell.fed_back(state, cell.recurrent, np.zeros(cell.hidden), f"state{step}")
        given = cell.add(Add(), given, fed, name=f"sum{step}")
    return cell.add(Clip(0, None) if "Relu" in _activations(cell.node) else Tanh(), given, name=f"h{step}"), None


CELLS: dict[str, tuple[int, tuple[tuple[str, ...], ...], Step]] = {
    "LSTM": (4, (("Sigmoid", "Tanh", "Tanh"),), lstm_step),
    "GRU": (3, (("Sigmoid", "Tanh"),), gru_step),
    "RNN": (1, (("Tanh",), ("Relu",)), rnn_step),
}
"""Gates, the activations that are known, and what a step is."""


@importer("LSTM", "GRU", "RNN")
def import_recurrent(importing: Importer, node: OnnxNode) -> None:
    batch = 0 if node.attribute("layout", 0) else 1
    value = importing.value(node, 0, batch=batch)
    steps, width = importing.shape(value)
    gates, known, step = CELLS[node.op_type]
    _check(importing, node, known, steps)
    cells = _cells(importing, node, gates, width)
    found: tuple[list[str], list[str], list[str]] = ([], [], [])
    for cell, is_backward in cells:
        past: State = (None, None)
        inputs, rows = cell.inputs(value), [""] * steps
        for at in reversed(range(steps)) if is_backward else range(steps):
            past = step(cell, cell.at(inputs, at), past, at)
            rows[at] = cell.add(Reshape((1, 1, cell.hidden)), past[0] or "", name=f"row{at}")
        found[0].append(cell.add(Concat(0), *rows, name="sequence") if steps > 1 else rows[0])
        for index, last in enumerate(past, 1):
            if last is not None:
                found[index].append(cell.add(Reshape((1, cell.hidden)), last, name=f"last{index}"))
    for index, output in enumerate(node.outputs):
        if output:
            parts, axis = found[index], 0 if index else 1
            whole = importing.add(node, Concat(axis), *parts, part=f"output{index}") if len(parts) > 1 else parts[0]
            importing.bind(node, whole, index, batch=batch and (1 if index else 2))


def _cells(importing: Importer, node: OnnxNode, gates: int, width: int) -> list[tuple[Cell, bool]]:
    """The directions, and whether each goes backwards."""
    importing.refuse_levels(node, 1, "the weights")
    importing.refuse_levels(node, 2, "the recurrence")
    weights = importing.constant(node, 1, "the weights").astype(float)
    recurrent = importing.constant(node, 2, "the recurrence").astype(float)
    count, hidden = len(weights), recurrent.shape[-1]
    shapes = weights.shape, recurrent.shape
    if shapes != ((count, gates * hidden, width), (count, gates * hidden, hidden)):
        raise ModelError(f"has weights of shapes {list(map(list, shapes))} for {width} inputs")
    bias = np.zeros((count, 2 * gates * hidden))
    if node.has(3):
        bias = importing.constant(node, 3, "the bias").astype(float)
    peephole = (
        importing.constant(node, 7, "the peepholes").astype(float) if node.has(7) else np.zeros((count, 3 * hidden))
    )
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    order = backward.get(node.attribute("direction", "forward"), ())
    if len(order) != count or int(node.attribute("hidden_size", hidden)) != hidden:
        raise ModelError(f"has weights for {count} directions of {hidden} hidden values")
    cells = []
    for k, is_backward in enumerate(order):
        first, second = np.split(bias[k], 2)
        cell = Cell(importing, node, hidden, f"d{k}", weights[k].T, recurrent[k].T, first, second, peephole[k])
        cells.append((cell, is_backward))
    return cells


def _activations(node: OnnxNode) -> list[str]:
    given: list[str | bytes] = node.attribute("activations", [])
    return [name.decode(errors="replace") if isinstance(name, bytes) else name for name in given]


def _check(importing: Importer, node: OnnxNode, known: tuple[tuple[str, ...], ...], steps: int) -> None:
    """Refuses what the steps above do not do."""
    names = _activations(node)
    if names and not any(names == list(plain) * (len(names) // len(plain)) for plain in known):
        raise UnsupportedOperator(f"has the activations {names}, {' or '.join(map(str, known))} are supported")
    if node.attribute("input_forget", 0):
        raise UnsupportedOperator("couples input and forget gate (input_forget 1)")
    if steps > MOST_STEPS:
        raise UnsupportedOperator(f"has {steps} steps, {MOST_STEPS} are unrolled at most")
    if node.has(4) and (importing.constant(node, 4, "the length of sequences") != steps).any():
        raise UnsupportedOperator(f"has sequences of other lengths than {steps}")
    for index, what in ((5, "the initial state"), (6, "the initial memory")):
        if node.has(index) and importing.constant(node, index, what).any():
            raise UnsupportedOperator(f"has {what} that is not 0")
