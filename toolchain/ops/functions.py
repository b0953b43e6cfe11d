"""Activation functions made of exact operators, and of tables where a curve is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

from toolchain.errors import UnsupportedOperator
from toolchain.ir import Array, Constant, FixedType, Node, Overflow, Rounding, Shape
from toolchain.ir.tabulated import Tabulated
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine, add_affine
from toolchain.ops.base import Operator, importer, operator
from toolchain.ops.clip import Clip
from toolchain.ops.prelu import PRelu
from toolchain.ops.product import Product
from toolchain.ops.table import INDEX_BITS, Sigmoid, Table

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode
    from toolchain.quantization.lowering import Lowering


def _index(integer: int, signed: bool) -> FixedType:
    return FixedType(INDEX_BITS, integer, signed, Rounding.RND, Overflow.SAT)


REAL: dict[str, Callable[[Array], Array]] = {
    "exp(x)": np.exp,
    "exp(-x)-1": lambda x: np.expm1(-x),
    "log(1+exp(-x))": lambda x: np.log1p(np.exp(-x)),
    "tanh(softplus(x))": lambda x: np.tanh(np.logaddexp(x, 0)),
    "x/(1+|x|)": lambda x: x / (1 + np.abs(x)),
    "erf": erf,
    "normal": lambda x: (1 + erf(x / np.sqrt(2))) / 2,
    "normal by tanh": lambda x: (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
}
INDICES = {
    "exp(-x)-1": _index(4, False),
    "log(1+exp(-x))": _index(4, False),
    "tanh(softplus(x))": _index(4, True),
    "erf": _index(3, True),
    "normal": _index(4, True),
    "normal by tanh": _index(4, True),
}
"""Where a function is flat outside. The index of others is what calibration shows."""


@operator
@dataclass(frozen=True)
class Curve(Operator):
    """y = function(x), a function of `ir/tabulated.py` by its name."""

    function: str

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(REAL[self.function](inputs[0]))

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        index = INDICES.get(self.function)
        value = inputs[0]
        if index is None:
            value = lowering.narrow(value)
            seen = lowering.type(value).fixed
            index = FixedType(min(seen.width, INDEX_BITS), seen.integer, seen.signed, Rounding.RND, Overflow.SAT)
        chosen = lowering.format(node)
        type = FixedType(chosen.width, chosen.integer, chosen.signed)
        value = lowering.to_format(value, index)
        plain = FixedType(index.width, index.integer, index.signed)
        return lowering.add(node, Table(Tabulated(self.function, plain, type), type), (value,))


@operator
@dataclass(frozen=True)
class Sign(Operator):
    """y = -1, 0 or 1."""

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def evaluate(self, *inputs: Array) -> Array:
        return np.asarray(np.sign(inputs[0]))

    def permuted(self, axes: tuple[int, ...], rank: int) -> Operator | None:
        return self

    def lower(self, lowering: Lowering, node: Node, inputs: tuple[str, ...]) -> str:
        """The raw integers, taken as whole numbers and limited to -1 and 1."""
        value = lowering.aligned(inputs[0])
        given = lowering.type(value)
        ones = (1,) * len(given.shape)
        one, zero = Constant(np.ones(ones, np.int64)), Constant(np.zeros(ones, np.int64))
        whole = Affine(one, zero, FixedType(2, 2 + given.fraction), (-given.fraction,))
        value = lowering.add(node, whole, (value,), part="whole")
        return lowering.add(node, Clip(-1, 1), (value,))


def scaled(importing: Importer, node: OnnxNode, value: str, factor: float, part: str, offset: float = 0.0) -> str:
    return add_affine(importing, node, value, np.full(1, factor), np.full(1, offset), part=part)


def positive(importing: Importer, node: OnnxNode, value: str, part: str = "positive") -> str:
    return importing.add(node, Clip(0, None), value, part=part)


def magnitude(importing: Importer, node: OnnxNode, value: str, part: str = "") -> str:
    slopes = Constant(np.full((1,) * len(importing.shape(value)), -1.0))
    return importing.add(node, PRelu(slopes), value, part=part)


@importer("Exp", "Erf", "Softsign")
def import_curve(importing: Importer, node: OnnxNode) -> None:
    name = {"Exp": "exp(x)", "Erf": "erf", "Softsign": "x/(1+|x|)"}[node.op_type]
    importing.bind(node, importing.add(node, Curve(name), importing.value(node, 0)))


@importer("Abs")
def import_abs(importing: Importer, node: OnnxNode) -> None:
    importing.bind(node, magnitude(importing, node, importing.value(node, 0)))


@importer("Neg")
def import_neg(importing: Importer, node: OnnxNode) -> None:
    importing.bind(node, scaled(importing, node, importing.value(node, 0), -1.0, ""))


@importer("Sign")
def import_sign(importing: Importer, node: OnnxNode) -> None:
    importing.bind(node, importing.add(node, Sign(), importing.value(node, 0)))


@importer("HardSigmoid")
def import_hard_sigmoid(importing: Importer, node: OnnxNode) -> None:
    """y = min(max(alpha x + beta, 0), 1)."""
    value = importing.value(node, 0)
    value = scaled(importing, node, value, node.attribute("alpha", 0.2), "slope", node.attribute("beta", 0.5))
    importing.bind(node, importing.add(node, Clip(0.0, 1.0), value))


@importer("HardSwish")
def import_hard_swish(importing: Importer, node: OnnxNode) -> None:
    """y = x min(max(x / 6 + 1/2, 0), 1)."""
    value = importing.value(node, 0)
    gate = importing.add(node, Clip(0.0, 1.0), scaled(importing, node, value, 1 / 6, "slope", 0.5), part="gate")
    importing.bind(node, importing.add(node, Product(), value, gate))


def _exponential(importing: Importer, node: OnnxNode, value: str, inner: float, outer: float) -> str:
    """max(x, 0) + outer (exp(min(inner x, 0)) - 1)."""
    distance = positive(importing, node, scaled(importing, node, value, -inner, "distance"), "negative")
    curve = importing.add(node, Curve("exp(-x)-1"), distance, part="curve")
    below = scaled(importing, node, curve, outer, "below")
    return importing.add(node, Add(), positive(importing, node, value), below, part="sum")


@importer("Elu", "Celu", "Selu")
def import_elu(importing: Importer, node: OnnxNode) -> None:
    """y = max(x, 0) + alpha (exp(min(x, 0)) - 1); Celu has exp(x / alpha), Selu a factor gamma in front."""
    value = importing.value(node, 0)
    alpha = node.attribute("alpha", 1.6732632423543772 if node.op_type == "Selu" else 1.0)
    if node.op_type == "Celu" and alpha <= 0:
        raise UnsupportedOperator(f"has the alpha {alpha}, which is not above 0")
    value = _exponential(importing, node, value, 1 / alpha if node.op_type == "Celu" else 1.0, alpha)
    if node.op_type == "Selu":
        value = scaled(importing, node, value, node.attribute("gamma", 1.0507009873554805), "")
    importing.bind(node, value)


@importer("Softplus")
def import_softplus(importing: Importer, node: OnnxNode) -> None:
    """y = max(x, 0) + log(1 + exp(-|x|))."""
    value = importing.value(node, 0)
    curve = importing.add(node, Curve("log(1+exp(-x))"), magnitude(importing, node, value, "magnitude"), part="curve")
    importing.bind(node, importing.add(node, Add(), positive(importing, node, value), curve))


@importer("Gelu", "Mish", "Swish")
def import_gated(importing: Importer, node: OnnxNode) -> None:
    """x times a curve: the normal distribution, tanh(softplus(x)), sigmoid(alpha x)."""
    value = importing.value(node, 0)
    if node.op_type == "Swish":
        steep = scaled(importing, node, value, node.attribute("alpha", 1.0), "scaled")
        gate = importing.add(node, Sigmoid(), steep, part="gate")
    elif node.op_type == "Mish":
        gate = importing.add(node, Curve("tanh(softplus(x))"), value, part="gate")
    else:
        approximate = node.attribute("approximate", "none")
        if approximate not in ("none", "tanh"):
            raise UnsupportedOperator(f"has the approximation {approximate!r}")
        curve = Curve("normal by tanh" if approximate == "tanh" else "normal")
        gate = importing.add(node, curve, value, part="gate")
    importing.bind(node, importing.add(node, Product(), value, gate))


@importer("ThresholdedRelu")
def import_thresholded_relu(importing: Importer, node: OnnxNode) -> None:
    """y = x where x > alpha, 0 elsewhere, for alpha >= 0: x times the sign of max(x - alpha, 0)."""
    value, alpha = importing.value(node, 0), node.attribute("alpha", 1.0)
    if alpha < 0:
        raise UnsupportedOperator(f"has the negative threshold {alpha}")
    above = positive(importing, node, scaled(importing, node, value, 1.0, "distance", -alpha), "above")
    gate = importing.add(node, Sign(), above, part="gate")
    importing.bind(node, importing.add(node, Product(), value, gate))
