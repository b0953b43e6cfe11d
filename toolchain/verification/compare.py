"""Finds the first integer that differs between the program and one of its renderings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolchain.errors import MismatchError
from toolchain.ir import Array


@dataclass(frozen=True)
class Agreement:
    """What was compared when nothing differed."""

    rendering: str
    frames: int
    layers: int
    values: int


def check_same_layers(wanted: Collection[str], there: Collection[str], folder: Path) -> None:
    """Raises MismatchError with the first layer that the program or the code in a folder has alone."""
    different = [name for name in wanted if name not in there] + [name for name in there if name not in wanted]
    if different:
        is_there = different[0] in there
        raise MismatchError(
            different[0],
            (),
            "no such layer" if is_there else "this layer",
            "one" if is_there else "none",
            where=str(folder),
            fix="The folder belongs to another program than program.json.",
        )


def first_difference(layer: str, expected: Array, got: Array, offset: int = 0) -> MismatchError | None:
    """None when both arrays (frames, ...) are equal, else the error that names the first place.

    `offset` is the number of the first frame. The index is (frame, position...).
    """
    if got.shape != expected.shape:
        return MismatchError(layer, (), f"{expected.size} values", f"{got.size}")
    if np.array_equal(expected, got):
        return None
    index = tuple(int(k) for k in np.argwhere(expected != got)[0])
    place = (index[0] + offset, *index[1:])
    return MismatchError(layer, place, int(expected[index]), int(got[index]))


def compare_layers(
    order: Iterable[str], expected: Mapping[str, Array], got: Mapping[str, Array], offset: int = 0
) -> MismatchError | None:
    """The first difference in execution order, over the layers that both have."""
    for name in order:
        if name in expected and name in got:
            error = first_difference(name, expected[name], got[name], offset)
            if error is not None:
                return error
    return None
