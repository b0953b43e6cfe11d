"""Weights of a layer as the packing sees them, whatever operator they belong to."""

from __future__ import annotations

from dataclasses import dataclass

from toolchain.ir.constant import Array


@dataclass(frozen=True)
class Filters:
    """Real weights (taps, channels of a group, outputs) with `rows` x `columns` taps.

    Output o belongs to the group o * groups // outputs. A matrix behind a flattened picture is a filter of its size.
    """

    weights: Array
    rows: int
    columns: int
    groups: int = 1

    @property
    def is_depthwise(self) -> bool:
        return self.weights.shape[1] == 1 and self.groups > 1

    def grouped(self, array: Array) -> Array:
        """(taps, channels, outputs) as (groups, taps * channels, outputs of a group)."""
        flat = array.reshape(-1, self.groups, array.shape[-1] // self.groups)
        return flat.transpose(1, 0, 2)

    def ungrouped(self, array: Array) -> Array:
        """The inverse of `grouped`."""
        return array.transpose(1, 0, 2).reshape(self.weights.shape)
