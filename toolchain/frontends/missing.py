"""Operators of networks of this field that are not supported: why, or what helps."""

from __future__ import annotations

MISSING = {
    ("Attention",): "it is one operator for what MatMul, Add and Softmax do; export those",
    ("Cast", "Ceil", "Floor", "Round"): "of computed values only a quantizer cuts off (`rounding_mode`)",
    ("CumSum", "GatherND", "ScatterND"): "addresses depend on values; Gather with constant ones is supported",
    ("DynamicQuantizeLinear",): "its scale depends on the sample, so no circuit can be sized; quantize statically",
    ("Einsum",): "write it as MatMul, Transpose and Reshape",
    ("Equal", "Greater", "Less", "Where"): "it chooses by comparison; Max, Min, Clip and Relu are supported",
    ("GlobalLpPool", "LpPool", "Log", "Pow", "Reciprocal", "Sqrt"): "no table of it has a bounded error over all real "
    "inputs; of constants it is folded",
    ("GridSample", "MaxRoiPool", "RoiAlign"): "it reads at computed places",
    ("If", "Loop", "Scan"): "control flow is folded where its condition is constant, else run it on the host",
    ("LogSoftmax",): "leave it out at an output: its order is that of its input; or use Softmax",
    ("MaxUnpool",): "it needs the indices of maxima",
    ("Mean",): "write it as Add and Mul",
    ("NonMaxSuppression", "NonZero", "Unique"): "it gives as many results as the sample has; run it on the host",
    ("Shape", "Size", "Tile"): "of computed shapes; those of constants are folded",
}


def reason(kind: str) -> str:
    """Why an operator is not supported, or what helps; nothing for one that nobody asked for yet."""
    return next((why for kinds, why in MISSING.items() if kind in kinds), "")
