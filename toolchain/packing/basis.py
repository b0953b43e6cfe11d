"""The integer bases of the packing: block transforms whose inverse needs no rounding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array

LARGEST = 11
"""The longest basis: one dimension of a kernel."""
EXACT = {
    1: ((1,),),
    2: ((1, 1), (1, -1)),
    3: ((1, 1, 1), (1, 0, -1), (1, -2, 1)),
    4: ((1, 1, 1, 1), (2, 1, -1, -2), (1, -1, -1, 1), (1, -2, 2, -1)),
    5: ((1, 1, 1, 1, 1), (2, 1, 0, -1, -2), (2, -1, -2, -1, 2), (1, -2, 0, 2, -1), (1, -4, 6, -4, 1)),
}
"""Integer matrices with orthogonal rows. The first three are the DCT-II up to a scale per row."""
SCALE = 8
"""Largest entry of the longer bases, a compromise between closeness to the DCT and width of the sums."""

Kind = Literal["none", "taps", "channels"]


@cache
def basis(size: int) -> Array:
    """The (size, size) integer basis, one basis vector a row, lowest frequency first.

    Sizes 1 to 5 have exactly orthogonal rows. Sizes 6 to 11 are the DCT-II (Ahmed, Natarajan and Rao, 1974, eq. 1),
    row u the rounded SCALE cos(pi (2 x + 1) u / (2 size)); the first row is all ones. They are invertible, nearly
    orthogonal, and their coefficients are least-squares ones (`Transform.forward`). Raises PassError for other sizes.
    """
    if size in EXACT:
        return _frozen(np.array(EXACT[size], dtype=np.int64))
    if not 1 <= size <= LARGEST:
        raise PassError(f"there is no basis of size {size}, the longest is {LARGEST}")
    x, u = np.arange(size), np.arange(size)[:, None]
    cosines = np.rint(SCALE * np.cos(np.pi * (2 * x + 1) * u / (2 * size))).astype(np.int64)
    cosines[0] = 1
    return _frozen(cosines)


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class Transform:
    """A block transform of weights seen as (taps, channels, outputs).

    - `none`: the weights themselves;
    - `taps`: 2-D over the taps of each kernel slice, which has `rows` x `columns` of them (CNNpack, eq. 3);
    - `channels`: over blocks of rows * columns neighbouring input channels, 2-D when both are above 1 (the paper's
      reshape of fully connected weights), 1-D otherwise.

    Frequency (u, v) has the index u * columns + v.
    """

    kind: Kind = "none"
    rows: int = 1
    columns: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or not (1 <= self.rows <= LARGEST and 1 <= self.columns <= LARGEST):
            raise PassError(f"there is no transform of {self.rows} x {self.columns} {self.kind}")

    @property
    def size(self) -> int:
        """Coefficients of a block."""
        return self.rows * self.columns

    @property
    def matrix(self) -> Array:
        """(size, size) integers, one vectorized basis kernel a row: w = sum over f of c[f] matrix[f]."""
        return np.kron(basis(self.rows), basis(self.columns))

    def fits(self, taps: int, channels: int) -> bool:
        """Can weights of (taps, channels, outputs) be coded so?"""
        if self.kind == "taps":
            return self.size == taps
        return self.size == 1 if self.kind == "none" else channels % self.size == 0

    def blocks(self, weights: Array) -> Array:
        """(taps, channels, outputs) as (size, blocks, outputs), the transformed axis first."""
        taps, channels, outputs = weights.shape
        if self.kind == "channels":
            parts = weights.reshape(taps, channels // self.size, self.size, outputs)
            return parts.transpose(2, 0, 1, 3).reshape(self.size, -1, outputs)
        return weights if self.kind == "taps" else weights.reshape(1, taps * channels, outputs)

    def joined(self, blocks: Array, taps: int) -> Array:
        """The inverse of `blocks`."""
        outputs = blocks.shape[-1]
        if self.kind == "channels":
            parts = blocks.reshape(self.size, taps, -1, outputs)
            return parts.transpose(1, 2, 0, 3).reshape(taps, -1, outputs)
        return blocks if self.kind == "taps" else blocks.reshape(taps, -1, outputs)

    def forward(self, weights: Array) -> Array:
        """Real coefficients of (taps, channels, outputs) weights: the least-squares solution of `inverse`.

        For orthogonal rows c[f] = <w, matrix[f]> / <matrix[f], matrix[f]>.
        """
        blocks = self.blocks(weights)
        solved = np.linalg.solve(self.matrix.T.astype(np.float64), blocks.reshape(self.size, -1))
        return self.joined(solved.reshape(blocks.shape), len(weights))

    def inverse(self, coefficients: Array) -> Array:
        """The weights that coefficients stand for, w = sum over f of c[f] matrix[f]: exact in integers."""
        blocks = self.blocks(coefficients)
        product = np.tensordot(self.matrix.T.astype(blocks.dtype), blocks, 1)
        return self.joined(product, len(coefficients))

    def along(self, inputs: Array, taps: int) -> Array:
        """The basis stage: inputs (..., taps * channels) to Z (..., taps * channels), so that x . w == Z . c."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        blocks = self.blocks(flat.T.reshape(taps, -1, len(flat)))
        product = np.tensordot(self.matrix.astype(blocks.dtype), blocks, 1)
        return self.joined(product, taps).reshape(-1, len(flat)).T.reshape(inputs.shape)

    def frequency(self, taps: int, channels: int) -> Array:
        """The frequency index of each entry of a (taps, channels) slice."""
        if self.kind == "taps":
            return np.broadcast_to(np.arange(taps)[:, None], (taps, channels))
        if self.kind == "channels":
            return np.broadcast_to(np.arange(channels) % self.size, (taps, channels))
        return np.zeros((taps, channels), dtype=np.int64)
