"""Batches of training data, the same ones in every run: from arrays, or from what a user's own pipeline gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolchain.errors import CalibrationError
from toolchain.ir import Array, Graph
from toolchain.simulation.arrays import load_arrays

Batch = tuple[Array, Array]
"""x and y."""
Pipeline = Iterable[Batch] | Callable[[int], Iterable[Batch]]
"""Batches that can be gone through again and again, or a function that gives those of an epoch."""
BATCH = 128
CALIBRATION = 512
"""Rows that formats and steps are chosen on."""
HELD = 12
"""Without validation data every so many-th row is held out."""


@dataclass(frozen=True)
class Data:
    """Rows x in the model's own layout and scale, their classes y."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)

    def part(self, rows: Array) -> Data:
        return Data(self.x[rows], self.y[rows])

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return max(len(self) // BATCH, 1)

    @property
    def examples(self) -> Array:
        """Rows of x to choose formats on, evenly spread."""
        count = min(CALIBRATION, len(self))
        return self.x[np.arange(count) * len(self) // count]

    def epoch(self, number: int, seed: int) -> Iterator[tuple[Data, Array | None]]:
        """All batches of an epoch and the numbers of their rows, in an order that seed and epoch decide."""
        order = np.random.default_rng((seed, number)).permutation(len(self))
        for start in range(0, len(order) - len(order) % BATCH or len(order), BATCH):
            rows = order[start : start + BATCH]
            yield self.part(rows), rows


@dataclass(frozen=True)
class Stream:
    """Batches of a user's own pipeline, so many an epoch. `examples` are rows of its first ones."""

    source: Pipeline
    batches: int
    examples: Array

    def epoch(self, number: int, seed: int) -> Iterator[tuple[Data, Array | None]]:
        """What the pipeline gives; its order is its own."""
        del seed
        for x, y in _batches(self.source, number):
            yield Data(np.asarray(x), np.asarray(y)), None


def _batches(source: Pipeline, epoch: int) -> Iterable[Batch]:
    return source(epoch) if callable(source) else source


def stream(source: Pipeline, graph: Graph) -> Stream:
    """Counts the batches of a pipeline, and checks them. Raises CalibrationError for what does not fit the graph."""
    examples: list[Array] = []
    count = 0
    for x, y in _batches(source, 0):
        count += 1
        checked = _checked(np.asarray(x), np.asarray(y), graph, f"batch {count} of the training data")
        if sum(map(len, examples)) < CALIBRATION:
            examples.append(checked.x)
    if not count:
        raise CalibrationError("gives no batches", where="training data")
    return Stream(source, count, np.concatenate(examples)[:CALIBRATION])


def read(source: str | Path | Batch, graph: Graph) -> Data:
    """Data for the one input of a graph. Raises CalibrationError, or InputError for a damaged file."""
    where = str(source) if isinstance(source, str | Path) else "training data"
    if isinstance(source, str | Path):
        arrays = load_arrays(Path(source), ["x", "y"])
        x, y = arrays["x"], arrays["y"]
    else:
        x, y = (np.asarray(one) for one in source)
    found = _checked(x, y, graph, where)
    if len(found) < 2 * HELD:
        raise CalibrationError(f"has {len(x)} rows, {2 * HELD} are needed at least", where=where)
    return found


def _checked(x: Array, y: Array, graph: Graph, where: str) -> Data:
    shape = graph.inputs[0].model_shape
    if x.shape[1:] != shape:
        raise CalibrationError(f"has x of shape {list(x.shape)}, the model wants rows of {list(shape)}", where=where)
    if y.ndim != 1 or len(y) != len(x) or y.dtype.kind not in "iu":
        raise CalibrationError(
            f"has y of shape {list(y.shape)} and type {y.dtype} for {len(x)} rows",
            where=where,
            fix="Give class numbers.",
        )
    return Data(x, y.astype(np.int64))


def split(data: Data) -> tuple[Data, Data]:
    """(to train with, held out)."""
    held = np.arange(len(data)) % HELD == HELD - 1
    return data.part(np.flatnonzero(~held)), data.part(np.flatnonzero(held))
