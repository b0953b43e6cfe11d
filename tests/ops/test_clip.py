"""Limits of values that fill 64 bits and more, down to the generated C++."""

import numpy as np
import pytest

from tests.small import Model
from toolchain.compiler import compile_model
from toolchain.verification.csim import verify_hls


@pytest.mark.csim
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("forced", "operator", "bounds"),
    [
        ({"output": "fixed<64,20,RND,SAT>"}, "Clip", (-0.7, 0.6)),
        ({"output": "fixed<64,20,RND,SAT>"}, "Clip", (-0.7, None)),
        ({"output": "fixed<8,3,RND,SAT>"}, "Clip", (None, 0.6)),
    ],
)
def test_a_clip_behind_a_wide_value(tmp_path, forced, operator, bounds):
    m = Model()
    m.input("x", "N", 3, 4, 4)
    conv = m.add("Conv", "x", m.noise(2, 3, 3, 3), m.noise(2), name="conv")
    limits = ["" if bound is None else m.constant(bound) for bound in bounds]
    m.output(m.add(operator, conv, *limits, name="clip"))
    x = np.random.default_rng(2).uniform(-1.9, 1.9, (6, 3, 4, 4))
    layers = {"conv": forced, "clip": {"input": forced["output"]} if "output" in forced else {}}
    project = compile_model(m.save(tmp_path / "m.onnx"), tmp_path / "p", calibrate=x, config={"layers": layers})
    assert any("Clip" in type(node.operator).__name__ for node in project.graph.nodes)
    assert verify_hls(project, {"x": x}).frames == 6
