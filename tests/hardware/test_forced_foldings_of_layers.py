"""A forced folding holds for a layer's convolution or matrix, not for what else the layer consists of."""

from pathlib import Path

import numpy as np

import toolchain

DIGITS = Path(__file__).parents[2] / "examples/digits"


def test_simd_need_not_suit_the_layers_requantize(tmp_path):
    with np.load(DIGITS / "digits.npz") as digits:
        x = digits["x_train"][:16] / 16
    config = {"layers": {"digit": {"pe": 2, "simd": 4}}}  # 10 outputs leave in words that 4 does not divide
    project = toolchain.compile(DIGITS / "digits.onnx", tmp_path / "p", calibrate=x, config=config)
    layer = next(layer for layer in project.report["layers"] if layer["name"] == "digit")
    assert (layer["pe"], layer["simd"]) == (2, 4)
