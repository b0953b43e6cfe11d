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
Source = str | Path | Batch | Callable[[int], Iterable[Batch]]
"""A file, (x, y), or a function that gives the batches of an epoch."""
BATCH = 128
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

    def epoch(self, number: int, seed: int) -> Iterator[tuple[Array, Array]]:
        """(rows, their numbers) of all batches of an epoch, in an order that seed and epoch decide."""
        order = np.random.default_rng((seed, number)).permutation(len(self))
        for start in range(0, len(order) - len(order) % BATCH or len(order), BATCH):
            rows = order[start : start + BATCH]
            yield self.x[rows], rows


def read(source: str | Path | Batch, graph: Graph) -> Data:
    """Data for the one input of a graph. Raises CalibrationError, or InputError for a damaged file."""
    where = str(source) if isinstance(source, str | Path) else "training data"
    if isinstance(source, str | Path):
        arrays = load_arrays(Path(source), ["x", "y"])
        x, y = arrays["x"], arrays["y"]
    else:
        x, y = (np.asarray(one) for one in source)
    shape = graph.inputs[0].model_shape
    if x.shape[1:] != shape:
        raise CalibrationError(f"has x of shape {list(x.shape)}, the model wants rows of {list(shape)}", where=where)
    if y.ndim != 1 or len(y) != len(x) or y.dtype.kind not in "iu":
        raise CalibrationError(
            f"has y of shape {list(y.shape)} and type {y.dtype} for {len(x)} rows",
            where=where,
            fix="Give class numbers.",
        )
    if len(x) < 2 * HELD:
        raise CalibrationError(f"has {len(x)} rows, {2 * HELD} are needed at least", where=where)
    return Data(x, y.astype(np.int64))


def split(data: Data) -> tuple[Data, Data]:
    """(to train with, held out)."""
    held = np.arange(len(data)) % HELD == HELD - 1
    return data.part(np.flatnonzero(~held)), data.part(np.flatnonzero(held))
