"""Layers that move, add or drop elements without computing."""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields, Json, is_integer, show
from toolchain.frontends.keras.layers.base import Unary, channels_last
from toolchain.frontends.keras.layers.window import MAX_EXTENT


@dataclass(frozen=True)
class Flatten(Unary):
    """All axes but the batch into one."""

    data_format: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Flatten layer."""
        return cls(channels_last(fields))

    def apply(self, call: Call, value: Value) -> Value:
        """Keras flattens channels-first tensors in channels-last order."""
        if self.data_format == "channels_first" and value.rank > 2:
            value = call.transpose(value, (0, *range(2, value.rank), 1), "to_channels_last")
        return call.node("Flatten", [value], (math.prod(value.shape),), axis=1)


@dataclass(frozen=True)
class Reshape(Unary):
    """Another shape for the same elements; one -1 takes what is left."""

    target: tuple[int, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Reshape layer."""
        value = fields.take("target_shape")
        if is_integer(value):
            value = [value]
        good = isinstance(value, list) and 1 <= len(value) <= 6 and all(is_integer(v) for v in value)
        if not good or value.count(-1) > 1 or any(v < 1 and v != -1 for v in value):
            fields.refuse("target_shape", f"{show(value)} is not a shape of 1 to 6 dimensions")
            return cls((-1,))
        return cls(tuple(value))

    def apply(self, call: Call, value: Value) -> Value:
        """The batch is kept by a 0 in ONNX's shape."""
        total, known = math.prod(value.shape), math.prod(size for size in self.target if size != -1)
        shape = tuple(total // known if size == -1 else size for size in self.target)
        if math.prod(shape) != total:
            raise ModelError(f"{value.shape} cannot be reshaped to {self.target}", where=call.name)
        return call.node("Reshape", [value, call.integers("shape", [0, *shape])], shape)


@dataclass(frozen=True)
class Permute(Unary):
    """Another order of the axes; `dims` counts from 1."""

    dims: tuple[int, ...]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Reads a Permute layer."""
        value = fields.take("dims")
        if not isinstance(value, list) or sorted(v for v in value if is_integer(v)) != list(range(1, len(value) + 1)):
            fields.refuse("dims", f"{show(value)} is not a permutation of 1, 2, ...")
            return cls(())
        return cls(tuple(value))

    def apply(self, call: Call, value: Value) -> Value:
        """One Transpose."""
        call.expect_rank(value, len(self.dims) + 1)
        return call.transpose(value, (0, *self.dims), "")


@dataclass(frozen=True)
class Borders(Unary):
    """Amounts at the begin and end of every spatial axis."""

    amounts: tuple[tuple[int, int], ...]
    data_format: str
    rank: ClassVar[int]
    key: ClassVar[str]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """One number for all borders, one an axis, or a pair an axis."""
        value = fields.take(cls.key)
        amounts = read_borders(value, cls.rank)
        if amounts is None:
            fields.refuse(cls.key, f"{show(value)} is not an amount for each border")
            amounts = ((0, 0),) * cls.rank
        return cls(amounts, channels_last(fields))


def read_borders(value: Json, rank: int) -> tuple[tuple[int, int], ...] | None:
    """Keras's three notations of border amounts; None when it is none of them."""
    if rank == 1 and isinstance(value, list) and len(value) == 2 and all(is_integer(v) for v in value):
        value = [value]
    items = value if isinstance(value, list) else [value] * rank
    pairs = [item if isinstance(item, list) else [item, item] for item in items]
    flat = [amount for pair in pairs for amount in pair]
    if len(pairs) != rank or any(len(pair) != 2 for pair in pairs):
        return None
    if not all(is_integer(amount) and 0 <= amount < MAX_EXTENT for amount in flat):
        return None
    return tuple((pair[0], pair[1]) for pair in pairs)


class ZeroPadding(Borders):
    """Zeros around the spatial axes."""

    key = "padding"

    def apply(self, call: Call, value: Value) -> Value:
        """Pad in ONNX's layout, so that it can be merged into a Conv that follows."""
        value = call.channels_first(value, self.data_format)
        begins, ends = zip(*self.amounts, strict=True)
        spatial = (size + begin + end for size, (begin, end) in zip(value.shape[1:], self.amounts, strict=True))
        pads = call.integers("pads", [0, 0, *begins, 0, 0, *ends])
        value = call.node("Pad", [value, pads, call.real("zero", 0.0)], (value.shape[0], *spatial), mode="constant")
        return call.channels_back(value, self.data_format)


class Cropping(Borders):
    """Drops borders."""

    key = "cropping"

    def apply(self, call: Call, value: Value) -> Value:
        """Slice in ONNX's layout."""
        value = call.channels_first(value, self.data_format)
        starts = [begin for begin, _ in self.amounts]
        stops = [size - end for size, (_, end) in zip(value.shape[1:], self.amounts, strict=True)]
        spatial = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
        constants = [
            call.integers("starts", starts),
            call.integers("ends", stops),
            call.integers("axes", range(2, value.rank)),
        ]
        value = call.node("Slice", [value, *constants], (value.shape[0], *spatial))
        return call.channels_back(value, self.data_format)


class ZeroPadding1D(ZeroPadding):
    """(N, steps, channels)."""

    rank, ranks = 1, (3,)


class ZeroPadding2D(ZeroPadding):
    """(N, rows, columns, channels)."""

    rank, ranks = 2, (4,)


class Cropping1D(Cropping):
    """(N, steps, channels)."""

    rank, ranks = 1, (3,)


class Cropping2D(Cropping):
    """(N, rows, columns, channels)."""

    rank, ranks = 2, (4,)


@dataclass(frozen=True)
class UpSampling2D(Unary):
    """Repeats rows and columns."""

    size: tuple[int, ...]
    data_format: str
    ranks = (4,)

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Only nearest-neighbour."""
        fields.choice("interpolation", ("nearest",), "nearest")
        return cls(fields.integers("size", 2, 2), channels_last(fields))

    def apply(self, call: Call, value: Value) -> Value:
        """Resize with the coordinates of a repetition: floor(x / size)."""
        value = call.channels_first(value, self.data_format)
        channels, rows, columns = value.shape
        shape = (channels, rows * self.size[0], columns * self.size[1])
        scales = call.real("scales", (1.0, 1.0, *map(float, self.size)))
        value = call.node(
            "Resize",
            [value, "", scales],
            shape,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return call.channels_back(value, self.data_format)
