"""The fast engine: ONNX Runtime on integer-valued float32 where that is proved exact, NumPy elsewhere.

The program is cut into stretches of consecutive nodes. A node whose `bound` stays below 2**24 and that can be rendered
runs in ONNX Runtime; below 2**53 it runs in NumPy on float64; else on int64 or Python integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime

from toolchain.ir import Array, Graph, Node, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.simulation.reference import INT64_LIMIT, Observer
from toolchain.simulation.render import FLOAT_LIMIT, Renderer

DOUBLE_LIMIT = 1 << 53


@dataclass(frozen=True)
class _Session:
    """A stretch of the program in ONNX Runtime."""

    session: onnxruntime.InferenceSession
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class FastEngine:
    """Gives the integers of the reference engine. `observed` keeps every node's value for an observer."""

    def __init__(self, graph: Graph, threads: int = 1, observed: bool = False) -> None:
        self.graph = graph
        self._threads = threads
        self._observed = observed
        self._steps: list[_Session | Node] = []
        self._build()
        self._dying = self._last_uses()

    def evaluate(self, inputs: Mapping[str, Array], observer: Observer | None = None) -> dict[str, Array]:
        """As `reference.evaluate`. Values between stretches are held channels-last."""
        values: dict[str, Array] = {name: np.asarray(array) for name, array in inputs.items()}
        for step, dying in zip(self._steps, self._dying, strict=True):
            if isinstance(step, _Session):
                feed = {f"i{k}": self._to_float(values[name]) for k, name in enumerate(step.inputs)}
                for name, array in zip(step.outputs, step.session.run(None, feed), strict=True):
                    values[name] = np.moveaxis(array, 1, -1) if array.ndim == 4 else array
                    if observer:
                        observer(name, values[name].astype(np.int64))
            else:
                values[step.name] = self._evaluate(step, [values[name] for name in step.inputs])
                if observer:
                    observer(step.name, to_integers(values[step.name]))
            for name in dying:
                values.pop(name, None)
        return {output.name: to_integers(values[output.value]) for output in self.graph.outputs}

    def _evaluate(self, node: Node, arrays: list[Array]) -> Array:
        types = self.graph.input_types(node)
        integers = tuple(t for t in types if isinstance(t, TensorType))
        if len(integers) == len(types):
            bound = node.operator.bound(*integers)
            dtype = np.float64 if bound < DOUBLE_LIMIT else np.int64 if bound < INT64_LIMIT else object
            arrays = [_cast(array, dtype) for array in arrays]
        return node.operator.evaluate(*arrays)

    @staticmethod
    def _to_float(array: Array) -> Array:
        if array.ndim == 4:
            array = np.moveaxis(array, -1, 1)
        return np.ascontiguousarray(array, dtype=np.float32)

    def _build(self) -> None:
        stretch: list[Node] = []
        for node in self.graph.nodes:
            if self._in_float(node):
                stretch.append(node)
            else:
                self._close(stretch)
                stretch = []
                self._steps.append(node)
        self._close(stretch)

    def _in_float(self, node: Node) -> bool:
        types = self.graph.input_types(node)
        integers = tuple(t for t in types if isinstance(t, TensorType))
        if isinstance(node.operator, Quantize) or len(integers) != len(types):
            return False
        if node.operator.bound(*integers) >= FLOAT_LIMIT:
            return False
        trial = Renderer(self.graph)
        return node.operator.render(trial, node, tuple(f"i{k}" for k in range(len(node.inputs)))) is not None

    def _close(self, stretch: list[Node]) -> None:
        """Turns a stretch of nodes into one ONNX Runtime session."""
        if not stretch:
            return
        inside = frozenset(node.name for node in stretch)
        # An observer wants every node's own value, so nothing goes into the node before it.
        renderer = Renderer(self.graph, frozenset() if self._observed else inside)
        inputs = list(dict.fromkeys(name for node in stretch for name in node.inputs if name not in inside))
        names = {name: f"i{k}" for k, name in enumerate(inputs)}
        outputs: dict[str, str] = {}
        for node in stretch:
            if node.name in renderer.taken_over:
                names[node.name] = names[node.inputs[0]]
            else:
                rendered = node.operator.render(renderer, node, tuple(names[name] for name in node.inputs))
                assert rendered is not None
                names[node.name] = rendered
            needed = self.graph.is_output(node.name) or any(
                reader.name not in inside for reader in self.graph.consumers[node.name]
            )
            if needed or self._observed:
                outputs[node.name] = names[node.name]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = renderer.model({name: names[name] for name in inputs}, outputs)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._steps.append(_Session(session, tuple(inputs), tuple(outputs)))

    def _last_uses(self) -> list[tuple[str, ...]]:
        kept = {output.value for output in self.graph.outputs}
        last: dict[str, int] = {}
        for position, step in enumerate(self._steps):
            for name in (*step.inputs, *(step.outputs if isinstance(step, _Session) else (step.name,))):
                last[name] = position
        dying: list[list[str]] = [[] for _ in self._steps]
        for name, position in last.items():
            if name not in kept:
                dying[position].append(name)
        return [tuple(names) for names in dying]


def to_integers(array: Array) -> Array:
    """Integer-valued floats as int64; Python integers stay."""
    return array if array.dtype == object else np.ascontiguousarray(array).astype(np.int64)


def _cast(array: Array, dtype: type) -> Array:
    """float32 and float64 hold integers here; object arrays want Python integers."""
    if dtype is object and array.dtype != object:
        return array.astype(np.int64).astype(object)
    return array.astype(dtype, copy=False)
