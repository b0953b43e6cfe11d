"""Sliding windows: kernel, strides, dilation and padding of convolutions and pools, with TensorFlow's arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call
from toolchain.frontends.keras.fields import Fields

# Explicit pads larger than this have no honest use, and a hostile pair of them overflows later arithmetic.
MAX_EXTENT = 1 << 20


@dataclass(frozen=True)
class Window:
    """A window over the spatial axes, one entry an axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    @classmethod
    def of_convolution(cls, fields: Fields, rank: int, paddings: Sequence[str]) -> Self:
        """Reads kernel_size, strides, dilation_rate and padding."""
        strides, dilation = fields.integers("strides", rank, 1), fields.integers("dilation_rate", rank, 1)
        if max(strides) > 1 and max(dilation) > 1:
            fields.refuse("dilation_rate", f"{dilation} together with strides {strides} is undefined in Keras")
        return cls(fields.integers("kernel_size", rank), strides, dilation, fields.choice("padding", paddings, "valid"))

    @classmethod
    def of_pool(cls, fields: Fields, rank: int) -> Self:
        """Reads pool_size, strides (the pool size when null) and padding."""
        size = fields.integers("pool_size", rank, 2)
        strides = size if fields.take("strides", None) is None else fields.integers("strides", rank)
        return cls(size, strides, (1,) * rank, fields.choice("padding", ("valid", "same"), "valid"))

    def place(self, call: Call, spatial: tuple[int, ...]) -> tuple[list[int], tuple[int, ...]]:
        """ONNX pads (all begins, then all ends) and the output's spatial shape."""
        begins, ends, output = [], [], []
        for size, kernel, stride, dilation in zip(spatial, self.kernel, self.strides, self.dilation, strict=True):
            extent = (kernel - 1) * dilation + 1
            if max(extent, stride) > MAX_EXTENT:
                raise ModelError(f"the window {self} is too large", where=call.name)
            begin = end = 0
            if self.padding == "same":  # the odd pixel goes to the end
                total = max((-(-size // stride) - 1) * stride + extent - size, 0)
                begin, end = total // 2, total - total // 2
            elif self.padding == "causal":
                begin = extent - 1
            padded = size + begin + end
            if padded < extent:
                raise ModelError(f"the window of {extent} does not fit an input of {size}", where=call.name)
            begins.append(begin)
            ends.append(end)
            output.append((padded - extent) // stride + 1)
        return begins + ends, tuple(output)
