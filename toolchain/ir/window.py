"""The geometry that convolutions and poolings share: kernel, stride, dilation and padding over rows and columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolchain.errors import ModelError
from toolchain.ir.constant import Array, bordered
from toolchain.ir.types import Shape

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Pairs are (rows, columns). `pads` is (top, left, bottom, right)."""

    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def extent(self) -> Pair:
        """Rows and columns from the first tap to the last."""
        return (self.kernel[0] - 1) * self.dilations[0] + 1, (self.kernel[1] - 1) * self.dilations[1] + 1

    @property
    def is_padded(self) -> bool:
        return any(self.pads)

    def output(self, shape: Shape) -> Pair:
        """Rows and columns of the output for an input (H, W, C). Raises ModelError when the kernel does not fit."""
        if len(shape) != 3:
            raise ModelError(f"needs an input with rows, columns and channels, got the shape {list(shape)}")
        sizes = []
        for k in range(2):
            padded = shape[k] + self.pads[k] + self.pads[k + 2]
            if padded < self.extent[k]:
                raise ModelError(
                    f"a kernel of extent {self.extent[k]} does not fit into {padded} padded rows or columns"
                )
            sizes.append((padded - self.extent[k]) // self.strides[k] + 1)
        return sizes[0], sizes[1]

    def covers(self, shape: Shape) -> bool:
        """Is the one output pixel made from the whole input, nothing padded?"""
        return self.kernel == shape[:2] and not self.is_padded and self.dilations == (1, 1)

    def is_pointwise(self) -> bool:
        return self.kernel == (1, 1) and self.strides == (1, 1) and not self.is_padded

    def patches(self, values: Array, padding: float) -> Array:
        """(N, H, W, C) to a view (N, rows, columns, kernel rows, kernel columns, C); outside lies `padding`."""
        top, left, bottom, right = self.pads
        if self.is_padded:
            values = bordered(values, (0, top, left, 0), (0, bottom, right, 0), padding)
        view = np.lib.stride_tricks.sliding_window_view(values, self.extent, axis=(1, 2))
        view = view[:, :: self.strides[0], :: self.strides[1], :, :: self.dilations[0], :: self.dilations[1]]
        return view.transpose(0, 1, 2, 4, 5, 3)

    def counts(self, shape: Shape) -> Array:
        """(rows, columns): how many taps of each output pixel lie inside the picture."""
        ones = np.ones((1, shape[0], shape[1], 1), dtype=np.int64)
        counts: Array = self.patches(ones, 0).sum(axis=(3, 4))[0, :, :, 0]
        return counts
