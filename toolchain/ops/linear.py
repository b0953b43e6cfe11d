"""What convolutions and matrices share: exact ranges from the actual weights, folding of scales, and lowering."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from toolchain.ir import Array, Constant, FixedType, Node, TensorType
from toolchain.ops.base import Operator
from toolchain.packing.filters import Filters
from toolchain.packing.packed import Packed

if TYPE_CHECKING:
    from toolchain.quantization.lowering import Lowering


class LinearOperator(Operator):
    """An operator whose outputs are sums of inputs times `weights` plus `bias`, output channels on the last axis.

    Subclasses are dataclasses with these fields. With integer weights `fractions` holds their binary point per output
    channel (or one for all) and `weight_type` their format.
    """

    weights: Constant
    bias: Constant
    weight_type: FixedType | None
    fractions: tuple[int, ...]

    @property
    def outputs(self) -> int:
        return self.weights.shape[-1]

    def reach(self, given: TensorType) -> tuple[int, int]:
        """The range of what the weights meet; padding adds 0 to it."""
        return given.low, given.high

    def ranges(self, *inputs: TensorType) -> TensorType:
        (given,) = inputs
        low, high = self.reach(given)
        weights = self.weights.array.reshape(-1, self.outputs)
        positive, negative = weights.clip(min=0).sum(axis=0), weights.clip(max=0).sum(axis=0)
        sums = list(zip(positive.tolist(), negative.tolist(), self.bias.array.tolist(), strict=True))
        return TensorType.holding(
            self.shape(given.shape),
            min(p * low + n * high + b for p, n, b in sums),
            max(p * high + n * low + b for p, n, b in sums),
            tuple(f + given.fraction for f in self.fractions),
        )

    def bound(self, *inputs: TensorType) -> int:
        magnitude = inputs[0].magnitude
        sums = np.abs(self.weights.array.reshape(-1, self.outputs)).sum(axis=0).tolist()
        return int(
            max(magnitude, *(s * magnitude + abs(b) for s, b in zip(sums, self.bias.array.tolist(), strict=True)))
        )

    def scaled(self, scale: Array, offset: Array) -> Self:
        """The real operator followed by y * scale + offset per output channel."""
        return self.with_weights(self.weights.scaled(scale), Constant(self.bias.array * scale + offset))

    def with_weights(self, weights: Constant, bias: Constant) -> Self:
        """The same layer with other constants."""
        return self._with(weights=weights, bias=bias)

    def with_integers(
        self, weights: Constant, bias: Constant, weight_type: FixedType, fractions: tuple[int, ...]
    ) -> Self:
        """The integer operator."""
        return self._with(weights=weights, bias=bias, weight_type=weight_type, fractions=fractions)

    @property
    def filters(self) -> Filters:
        """The weights as the packing sees them."""
        raise NotImplementedError

    def vectors(self, values: Array, chosen: Array) -> Array:
        """What meets the weights for the chosen output pixels of (N, ...) inputs: (len(chosen), groups, K).

        Output pixels count row-major over samples, rows and columns; K runs over taps, then channels of the group.
        """
        raise NotImplementedError

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        value = lowering.narrow(inputs[0])
        integer, fractions, weight_type = lowering.weights(node, self, value)

        def make(bias: Constant) -> Operator:
            return self.with_integers(integer, bias, weight_type, fractions)

        return lowering.linear(node, value, self.bias.array, fractions, make, isinstance(integer, Packed))

    def _with(self, **changes: Any) -> Self:
        """A copy with other fields, which the subclass declares."""
        return replace(self, **changes)

    def parameters(self) -> int:
        return int(self.weights.array.size) + (self.outputs if self.bias.array.any() else 0)
