"""Runs integer programs on a user's arrays: model layout in, exact outputs back, any number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np

from toolchain.errors import ConfigurationError, InputError
from toolchain.ir import Array, Graph, Input, TensorType
from toolchain.simulation import reference
from toolchain.simulation.fast import FastEngine
from toolchain.simulation.reference import Observer

Engine = Literal["fast", "reference"]
BATCH_BYTES = 256 << 20
"""What the values of one batch may take at once, roughly."""


class Simulator:
    """Gives, bit for bit, what the hardware gives.

    `engine` is `fast` (ONNX Runtime and NumPy, proved exact) or `reference` (int64, the definition); `threads` serves
    the fast one.
    """

    def __init__(self, graph: Graph, engine: Engine = "fast", threads: int = 1) -> None:
        if engine not in ("fast", "reference"):
            raise ConfigurationError(f"the engine {engine!r} is unknown", fix="Use fast or reference.")
        self.graph = graph
        self._engine = engine
        self._threads = threads
        self._fast = FastEngine(graph, threads) if engine == "fast" else None
        largest = max(type.size for type in graph.types.values())
        self._batch = max(1, min(64, BATCH_BYTES // (8 * 4 * largest)))

    def predict(self, x: Array | Mapping[str, Array]) -> Array | dict[str, Array]:
        """Outputs in the model's scale, float64, exactly raw integer times step.

        `x` is (rows, ...) for one input, or a mapping from input names. Gives one array for one output, else a mapping.
        """
        raw = self.raw_outputs(self._named(x))
        return self._single({name: self.scaled(name, values) for name, values in raw.items()})

    def predict_raw(self, x: Array | Mapping[str, Array]) -> Array | dict[str, Array]:
        """Outputs as the program's raw integers, int64."""
        return self._single(self.raw_outputs(self._named(x)))

    def raw_outputs(
        self,
        inputs: Mapping[str, Array],
        progress: Callable[[int, int], None] | None = None,
        observer: Observer | None = None,
    ) -> dict[str, Array]:
        """Raw integers per output name in the model's layout.

        Rows run in batches; of each, `observer` gets every node's name and raw integers, channels-last.
        """
        checked = check_inputs(self.graph, inputs)
        run = self._runner(observer is not None)
        rows = len(next(iter(checked.values())))
        parts: dict[str, list[Array]] = {output.name: [] for output in self.graph.outputs}
        for part in reference.batches(rows, self._batch):
            results = run({name: array[part] for name, array in checked.items()}, observer)
            for output in self.graph.outputs:
                parts[output.name].append(np.ascontiguousarray(output.to_model(results[output.name])))
            if progress:
                progress(part.stop, rows)
        return {name: chunks[0] if len(chunks) == 1 else np.concatenate(chunks) for name, chunks in parts.items()}

    def trace(self, x: Array | Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Every node's name and raw integers, channels-last, in execution order, by the simulator's own engine.

        All of them are held at once: memory grows with the rows. `raw_outputs` with an observer works in batches.
        """
        seen: list[tuple[str, Array]] = []
        inputs = check_inputs(self.graph, self._named(x))
        self._runner(observed=True)(inputs, lambda name, values: seen.append((name, values)))
        return iter(seen)

    def scaled(self, name: str, raw: Array) -> Array:
        """Raw integers of an output in the model's scale. Raises InputError when float64 cannot hold one exactly."""
        output = next(output for output in self.graph.outputs if output.name == name)
        type = self.graph.types[output.value]
        assert isinstance(type, TensorType)
        return type.real(raw)

    def _runner(self, observed: bool) -> Callable[[Mapping[str, Array], Observer | None], dict[str, Array]]:
        """What runs a batch in the model's layout: the engine that was asked for, every node kept if `observed`."""
        engine = self._fast
        if engine is not None and observed:
            engine = FastEngine(self.graph, self._threads, observed=True)

        def run(inputs: Mapping[str, Array], observer: Observer | None) -> dict[str, Array]:
            channels_last = {given.name: given.from_model(inputs[given.name]) for given in self.graph.inputs}
            if engine is not None:
                return engine.evaluate(channels_last, observer)
            return reference.evaluate(self.graph, channels_last, observer)

        return run

    def _named(self, x: Array | Mapping[str, Array]) -> Mapping[str, Array]:
        if isinstance(x, Mapping):
            return x
        if len(self.graph.inputs) != 1:
            names = ", ".join(given.name for given in self.graph.inputs)
            raise InputError(f"has the inputs {names}", where=self.graph.name, fix="Give a mapping from name to array.")
        return {self.graph.inputs[0].name: x}

    def _single(self, outputs: dict[str, Array]) -> Array | dict[str, Array]:
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def check_inputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays by input name, checked. Raises InputError for wrong names, shapes, types, or NaN and infinity."""
    names = [given.name for given in graph.inputs]
    unknown = sorted(set(inputs) - set(names))
    missing = sorted(set(names) - set(inputs))
    if unknown or missing:
        what = f"no input is called {unknown[0]!r}" if unknown else f"the input {missing[0]!r} is missing"
        raise InputError(what, where=graph.name, fix=f"The model's inputs are {', '.join(names)}.")
    rows = {len(array) if np.ndim(array) else 0 for array in inputs.values()}
    checked = {given.name: _check(given, np.asarray(inputs[given.name])) for given in graph.inputs}
    if len(rows) > 1:
        raise InputError(f"the inputs have {sorted(rows)} rows, they need the same number", where=graph.name)
    return checked


def _check(given: Input, array: Array) -> Array:
    where = f"input {given.name!r}"
    if array.dtype.kind not in "fiub":
        raise InputError(f"has elements of type {array.dtype}, numbers are needed", where=where)
    if array.shape[1:] != given.model_shape or array.ndim != len(given.model_shape) + 1:
        wanted = ", ".join(map(str, ("rows", *given.model_shape)))
        raise InputError(f"has the shape {list(array.shape)}", where=where, fix=f"The model takes ({wanted}).")
    if len(array) == 0:
        raise InputError("has no rows", where=where)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        first = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"holds NaN or infinity at {list(first)}", where=where, fix="Clean the data first.")
    return array
