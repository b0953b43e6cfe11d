"""HGQ2's quantizers, read as data: settings from the configuration, bits from the weights.

Source: HGQ2, `hgq/quantizer` (Sun et al., arXiv:2405.00645), and `quantizers/fixed_point`, in inference: stochastic
rounding is plain there. k is the sign, i the integer bits without it, f the fraction bits and b = i + f; each has an
entry for every element of the heterogeneous axes and is rounded half to even.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields, Json, is_integer, show
from toolchain.frontends.keras.layers.base import Role
from toolchain.frontends.keras.quantizers import DOMAIN
from toolchain.ir import Overflow, Rounding
from toolchain.ir.rounding import round_real
from toolchain.ops.fixed_quantize import FixedQuantize, check

ORDER: Final = {
    ("kif", True): ("f", "k", "i", "decay"),
    ("kif", False): ("i", "f", "k"),
    ("kbi", True): ("b", "k", "i", "decay"),
    ("kbi", False): ("b", "i", "k"),
}
"""Variables as stored, trainable ones first, by kind and whether it wraps."""
ROUNDINGS: Final = tuple(str(mode) for mode in Rounding)
OVERFLOWS: Final = ("WRAP", "SAT", "SAT_SYM")
TRAINING: Final = (
    "place", "qnoise_factor", "k0", "b0", "i0", "f0", "bc", "ic", "fc", "br", "ir", "fr", "i_decay_speed", "trainable",
)  # fmt: skip


@dataclass(frozen=True)
class FixedPoint:
    """One quantizer, whose variables lie at `place` below the layer's."""

    place: str
    kind: str
    rounding: str
    overflow: str
    heterogeneous: tuple[int, ...] | None
    homogeneous: tuple[int, ...]
    is_weight: bool

    @property
    def roles(self) -> tuple[Role, ...]:
        """Its variables."""
        order = ORDER[self.kind, self.overflow == "WRAP"]
        return tuple(Role(f"{self.place}/{name}", place=f"{self.place}/quantizer") for name in order)

    def formats(self, call: Call, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], ...]:
        """k, i and f for a tensor of this shape, which has the batch as 1."""
        rank = len(shape)
        given = self.homogeneous if self.heterogeneous is None else self.heterogeneous
        if any(not -rank <= axis < rank for axis in given):
            raise ModelError(f"the axes {given} do not exist in {rank} dimensions", where=f"{call.name}: {self.place}")
        chosen = {axis % rank for axis in given}
        differ = chosen if self.heterogeneous is not None else set(range(rank)) - chosen
        sizes = tuple(size if axis in differ else 1 for axis, size in enumerate(shape))
        k, i = (np.rint(call.weight(f"{self.place}/{name}", sizes)) for name in "ki")
        if self.kind == "kif":
            return k, i, np.rint(call.weight(f"{self.place}/f", sizes))
        return k, i, np.rint(call.weight(f"{self.place}/b", sizes)) - i

    def operator(self, call: Call, shape: tuple[int, ...]) -> FixedQuantize:
        """Its meaning for a tensor of this shape, which has the batch as 1."""
        return FixedQuantize.of(self.formats(call, shape), Rounding(self.rounding), Overflow(self.overflow))

    def weights(self, call: Call, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """A constant of the layer, quantized."""
        operator = self.operator(call, array.shape)
        if not operator.widths.any():
            return np.zeros_like(array)
        check(operator)
        values = operator.evaluate(array)
        if self.is_weight and self.overflow == "WRAP":
            fractions = self.formats(call, array.shape)[2].astype(np.int64)
            scaled = np.ldexp(array.astype(np.float64), fractions)
            if (np.ldexp(round_real(scaled, operator.rounding), -fractions) != values).any():
                raise ModelError(
                    "weights are beyond their bits, where HGQ2 wraps them in some of its settings only",
                    where=call.name,
                    fix="Use SAT_SYM for them",
                )
        return values.astype(np.float32)

    def emit(self, call: Call, value: Value, suffix: str) -> Value:
        """An activation, quantized."""
        formats = self.formats(call, (1, *value.shape))
        names = [call.constant(f"{self.place}_{name}", array) for name, array in zip("kif", formats, strict=True)]
        modes = {"rounding_mode": self.rounding, "overflow_mode": self.overflow}
        return call.node("FixedQuant", [value, *names], value.shape, suffix, domain=DOMAIN, **modes)

    def finest(self, call: Call, value: Value) -> int:
        """Fraction bits that hold all that `emit` gives."""
        return self.operator(call, (1, *value.shape)).finest

    def range(self, call: Call, value: Value) -> tuple[int, int]:
        """The lowest and the highest level on the grid that holds all that `emit` gives: all bits of a type."""
        operator = self.operator(call, (1, *value.shape))
        bits = int((operator.magnitudes.array - operator.fractions.array).max()) + operator.finest
        return -(1 << bits) * int(operator.signs.array.any()), (1 << bits) - 1


def read_fixed_point(fields: Fields, key: str, place: str) -> FixedPoint | None:
    """The quantizer of a setting, None for null and for one that does nothing."""
    return parse_fixed_point(fields, key, fields.take(key, None), place)


def parse_fixed_point(fields: Fields, key: str, value: Json, place: str) -> FixedPoint | None:
    """The same, of a value of that setting. What is unsupported goes to `fields.problems`."""
    if value is None:
        return None
    config = value.get("config") if isinstance(value, dict) else None
    if not isinstance(config, dict) or value.get("registered_name") != "hgq>QuantizerConfig":
        fields.refuse(key, f"{show(value)} is no QuantizerConfig of HGQ2")
        return None
    inner = Fields(f"{fields.name}.{key}", fields.kind, config, fields.problems, fields.keras_major)
    kind = inner.choice("q_type", ("kif", "kbi", "dummy"))
    for name in ("scaler", "affine", "bw_mapper"):
        inner.only(name, None)
    inner.ignore(*TRAINING)
    rounding = str(inner.take("round_mode", "RND")).upper().removeprefix("S_")
    overflow = str(inner.take("overflow_mode", "WRAP")).upper()
    axes = [_axes(inner, name) for name in ("heterogeneous_axis", "homogeneous_axis")]
    is_weight = bool(inner.take("is_weight", False))
    inner.finish()
    if kind == "dummy":
        return None
    for name, mode, known in (("round_mode", rounding, ROUNDINGS), ("overflow_mode", overflow, OVERFLOWS)):
        if mode not in known:
            fields.refuse(f"{key}.{name}", f"{show(mode)} is not supported, only {', '.join(known)}")
            return None
    return FixedPoint(place, kind, rounding, overflow, axes[0], axes[1] or (), is_weight)


def _axes(fields: Fields, key: str) -> tuple[int, ...] | None:
    value = fields.take(key, None)
    if value is None or (isinstance(value, list) and all(is_integer(axis) for axis in value)):
        return None if value is None else tuple(value)
    fields.refuse(key, f"{show(value)} is no list of axes")
    return None


def finest_of(values: NDArray[np.float32], axis: int) -> NDArray[np.int64]:
    """Fraction bits that hold the values exactly, for each entry of an axis."""
    mantissas, exponents = np.frexp(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).astype(np.float64))
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    lowest = np.log2(np.maximum(whole & -whole, 1)).astype(np.int64)
    return np.asarray(np.where(whole == 0, -64, 53 - exponents - lowest).max(axis=1))
