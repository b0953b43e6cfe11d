"""Imported operators mean what ONNX says: against ONNX's own evaluator in floats, within the formats' error after
quantization, and without any difference between the two engines.
"""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from tests.ops.onnx_cases import CASES, UNSUPPORTED, Case
from toolchain.errors import UnsupportedOperator
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.ir import Graph
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.affine import Affine
from toolchain.ops.clip import Clip
from toolchain.ops.pad import Pad
from toolchain.ops.prelu import PRelu
from toolchain.ops.quantize import Quantize
from toolchain.ops.requantize import Requantize
from toolchain.ops.softmax import INDEX_FRACTION, IntegerSoftmax
from toolchain.ops.table import Table
from toolchain.passes import pipeline
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import Lowered, lower
from toolchain.simulation import reference
from toolchain.simulation.simulator import Simulator

SEED = 2718
ROWS = 12
TOLERANCE = 1e-5


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def arrays(case: Case) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SEED)
    return {name: rng.uniform(-1.5, 1.5, (ROWS, *shape)).astype(np.float32) for name, shape in case.shapes.items()}


def real_graph(case: Case) -> Graph:
    return pipeline.run(Importer(normalize(case.model()), "case").run(), pipeline.REAL_PASSES)


def in_floats(graph: Graph, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The real graph in float64, its output in the model's layout."""
    given = {i.name: i.from_model(inputs[i.name]).astype(np.float64) for i in graph.inputs}
    return graph.outputs[0].to_model(reference.evaluate(graph, given)[graph.outputs[0].name])


def expected(case: Case, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What the case's oracle says, sample by sample: a network has to treat each alone."""
    model = case.model(batch=1)
    rows = [{name: array[k : k + 1] for name, array in inputs.items()} for k in range(ROWS)]
    if callable(case.oracle):
        return case.oracle(*inputs.values())
    if case.oracle == "onnxruntime":
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results = [session.run(["y"], row)[0] for row in rows]
    else:
        evaluator = ReferenceEvaluator(model)
        results = [evaluator.run(["y"], row)[0] for row in rows]
    return np.concatenate([np.asarray(result) for result in results])


@by_name(CASES)
def test_real_graph_is_what_onnx_says(case):
    print(f"seed {SEED}")
    inputs = arrays(case)
    got, wanted = in_floats(real_graph(case), inputs), expected(case, inputs)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE)
