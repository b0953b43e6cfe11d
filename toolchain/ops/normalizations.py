"""Normalizations by what an input's own mean and variance are: a mean, a difference, and an Lrn over all channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.broadcasting import repeated
from toolchain.ops.add import Add
from toolchain.ops.affine import add_affine
from toolchain.ops.base import importer
from toolchain.ops.lrn import Lrn
from toolchain.ops.reductions import reduced
from toolchain.ops.reshape import Reshape

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode


def normalized(importing: Importer, node: OnnxNode, value: str, rows: int, epsilon: float, centred: bool = True) -> str:
    """(x - mean) / sqrt(variance + epsilon) of each of `rows` equal parts, or x / sqrt(mean square + epsilon).

    An Lrn whose window holds all n channels, with alpha / size = 1 / n, beta 1/2 and epsilon for its bias, is that.
    """
    shape = importing.shape(value)
    count = math.prod(shape) // rows
    if epsilon <= 0:
        raise UnsupportedOperator(f"has the epsilon {epsilon}, which is not above 0")
    value = importing.add(node, Reshape((rows, count)), value, part="rows")
    if centred:
        mean = reduced(importing, node, value, [1], "ReduceMean", "mean")
        mean = importing.add(node, Reshape((rows, 1)), mean, part="mean_column")
        mean = repeated(importing, node, mean, (rows, count), "mean_repeat")
        value = importing.add(node, Add(subtract=True), value, mean, part="difference")
    size = 2 * count - 1
    value = importing.add(node, Lrn(size, size / count, 0.5, epsilon), value, part="normalized")
    return importing.add(node, Reshape(shape), value, part="shape")


@importer("LayerNormalization", "RMSNormalization")
def import_layer_normalization(importing: Importer, node: OnnxNode) -> None:
    value = importing.value(node, 0)
    shape = importing.shape(value)
    axis = importing.axis(node.attribute("axis", -1), len(shape))
    node.ignore("stash_type")
    centred = node.op_type == "LayerNormalization"
    value = normalized(importing, node, value, math.prod(shape[:axis]), node.attribute("epsilon", 1e-5), centred)
    scale = importing.constant(node, 1, "the scale").astype(float)
    offset = importing.constant(node, 2, "the bias").astype(float) if node.has(2) else np.zeros(1)
    importing.bind(node, add_affine(importing, node, value, scale, offset))


@importer("InstanceNormalization", "GroupNormalization")
def import_instance_normalization(importing: Importer, node: OnnxNode) -> None:
    """Over the pixels of a channel, or of a group of channels."""
    value = importing.value(node, 0)
    channels, *rest = importing.shape(value)
    groups = int(node.attribute("num_groups", 0)) if node.op_type == "GroupNormalization" else channels
    node.ignore("stash_type")
    if groups < 1 or channels % groups:
        raise ModelError(f"has {groups} groups for {channels} channels")
    value = normalized(importing, node, value, groups, node.attribute("epsilon", 1e-5))
    names = ("the scale", "the bias")
    scale, offset = (importing.constant(node, k + 1, what).astype(float).ravel() for k, what in enumerate(names))
    if len(scale) == groups != channels:  # opset 18 has one for each group
        scale, offset = scale.repeat(channels // groups), offset.repeat(channels // groups)
    trailing = (1,) * len(rest)
    importing.bind(
        node, add_affine(importing, node, value, scale.reshape(-1, *trailing), offset.reshape(-1, *trailing))
    )
