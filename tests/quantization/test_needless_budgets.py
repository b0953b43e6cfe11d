"""A budget that nothing needs is no trouble."""

import numpy as np

from tests.small import Model
from toolchain.compiler import container_size
from toolchain.frontends import read_graph
from toolchain.passes import pipeline
from toolchain.quantization.budget import Budget, lower_packed
from toolchain.quantization.configuration import Configuration


def graph_of(tmp_path, weights):
    m = Model()
    m.input("x", "N", weights[0].shape[0])
    value = "x"
    for k, matrix in enumerate(weights):
        value = m.add("Gemm", value, m.constant(matrix), m.constant(np.zeros(matrix.shape[1])), name=f"layer{k}")
    m.output(value)
    return pipeline.run(read_graph(m.save(tmp_path / "m.onnx"), None, None), pipeline.REAL_PASSES)


def test_nothing_to_multiply_is_within_any_budget(tmp_path):
    graph = graph_of(tmp_path, [np.zeros((16, 8))])
    data = {"x": np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)}
    for amount in ("1kMAC", "0.05kMAC"):
        packed = lower_packed(graph, data, Configuration(), container_size, Budget.parse(amount))
        assert packed.plan is None or not any(c[0].coding.levels.array.any() for c in packed.plan.chosen.values())
