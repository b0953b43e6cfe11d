"""Puts scales and offsets (batch normalization) into the convolution or matrix beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from toolchain.ir import Constant, Graph, Levels
from toolchain.ops.affine import Affine
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.linear import LinearOperator
from toolchain.passes.rewriting import Rewriter

ONE = 2.0**-40


def fold_affine(graph: Graph) -> Graph:
    """Exact in real numbers.

    Folds an affine operator into the linear one before it, merges two in a row, which may then be nothing, and folds
    one into the linear operator behind it where no padding stands between them and its weights are not the model's own
    integers.
    """
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        inputs = rewriter.inputs(node)
        maker = rewriter.by_name.get(inputs[0]) if inputs else None
        alone = maker is not None and graph.sole_consumer(node.inputs[0]) is not None
        operator = node.operator
        if isinstance(operator, Affine) and maker is not None and alone:
            if isinstance(maker.operator, Conv | Gemm) and operator.is_per_channel:
                scale = np.broadcast_to(operator.scale.array, (*operator.scale.shape[:-1], maker.operator.outputs))
                offset = np.broadcast_to(operator.offset.array, scale.shape)
                folded = maker.operator.scaled(scale.ravel(), offset.ravel())
                rewriter.replace(maker.name, folded)
                rewriter.stand_for(node.name, maker.name)
                continue
            if isinstance(maker.operator, Affine):
                merged = operator.after(maker.operator)
                rewriter.replace(maker.name, merged)
                rewriter.stand_for(node.name, maker.inputs[0] if _is_nothing(merged) else maker.name)
                continue
        if maker is not None and alone and isinstance(maker.operator, Affine) and maker.operator.is_per_channel:
            scale, offset = maker.operator.scale.array.ravel(), maker.operator.offset.array.ravel()
            channels = graph.types[node.inputs[0]].shape[-1]
            scale, offset = np.broadcast_to(scale, (channels,)), np.broadcast_to(offset, (channels,))
            before = _absorb(operator, scale, offset)
            if before is not None:
                rewriter.stand_for(node.name, rewriter.add(node.name, before, maker.inputs, node.layer))
                continue
        rewriter.keep(node)
    return rewriter.finish()


def _is_nothing(operator: Affine) -> bool:
    """Quantized and back: a factor of 1 that two quotients brought off it."""
    return bool((np.abs(operator.scale.array - 1) < ONE).all() and not operator.offset.array.any())


def _absorb(operator: object, scale: np.ndarray, offset: np.ndarray) -> Conv | Gemm | None:
    """The linear operator that equals x * scale + offset and then `operator`, None where there is none."""
    if isinstance(operator, LinearOperator) and isinstance(operator.weights, Levels):
        return None
    if isinstance(operator, Gemm):
        weights = operator.weights.array
        bias = operator.bias.array + offset @ weights
        return replace(operator, weights=Constant(weights * scale[:, None]), bias=Constant(bias))
    if isinstance(operator, Conv) and (not operator.window.is_padded or not offset.any()):
        weights = operator.weights.array
        per_group = operator.outputs // operator.groups
        groups = np.arange(operator.outputs) // per_group
        inside = groups[None, :] * weights.shape[2] + np.arange(weights.shape[2])[:, None]  # (channels/groups, outputs)
        bias = operator.bias.array + (weights * offset[inside]).sum(axis=(0, 1, 2))
        return replace(operator, weights=Constant(weights * scale[inside]), bias=Constant(bias))
    return None
