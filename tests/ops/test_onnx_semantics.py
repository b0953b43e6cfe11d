"""Imported operators mean what ONNX says: against ONNX's own evaluator in floats, within the formats' error after
quantization, and without any difference between the two engines.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from tests.ops.onnx_cases import CASES, UNSUPPORTED, Case
from toolchain.errors import UnsupportedOperator
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.ir import Constant, Graph, Node
from toolchain.ops import Operator
from toolchain.ops.affine import Affine
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.clip import Clip
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.lrn import OFFSET_BITS, IntegerLrn, Lrn
from toolchain.ops.pad import Pad
from toolchain.ops.prelu import PRelu
from toolchain.ops.quantize import Quantize
from toolchain.ops.requantize import Requantize
from toolchain.ops.resample import Resample
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


@by_name(UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(case):
    model = case.model()
    extra = [onnx.helper.make_empty_tensor_value_info(name) for name in model.graph.node[-1].output[1:]]
    model.graph.output.extend(extra)
    known = {given.name for given in model.graph.input} | {tensor.name for tensor in model.graph.initializer}
    for name in model.graph.node[-1].input:
        if name and name not in known:  # computed by the network
            model.graph.node.insert(0, onnx.helper.make_node("Sigmoid", ["x0"], [name]))
    with pytest.raises(UnsupportedOperator) as error:
        Importer(normalize(model), "case").run()
    assert case.complaint in str(error.value)
    assert case.op in str(error.value) or "opset11" in case.name
    assert len(error.value.problems) >= 1


@pytest.mark.parametrize("op", ["Conv", "MaxPool", "Relu", "Concat", "Gemm", "Softmax", "Pad", "Identity"])
def test_an_attribute_nobody_knows_is_refused(op):
    known = next(case for case in CASES if case.op == op)
    model = known.model()
    attribute = onnx.helper.make_attribute("colour", "blue")
    model.graph.node[-1].attribute.append(attribute)
    with pytest.raises(UnsupportedOperator, match="attribute 'colour'"):
        Importer(normalize(model), "case").run()


# ---------------------------------------------------------------------------------------------- quantization


def sensitivity(graph: Graph, inputs: dict[str, np.ndarray]) -> float:
    """How much the largest output error exceeds the largest input error: the greatest absolute row sum of the Jacobian
    over the rows of the test. All operators here are smooth or piecewise linear.
    """
    epsilon, largest = 1e-6, 0.0
    for row in range(ROWS):
        point = {name: array[row : row + 1].astype(np.float64) for name, array in inputs.items()}
        base = in_floats(graph, point)
        total = np.zeros_like(base[0])
        for name, array in point.items():
            count = array[0].size
            steps = np.eye(count).reshape(count, *array.shape[1:]) * epsilon
            moved = {other: np.repeat(values, count, axis=0) for other, values in point.items()}
            moved[name] = moved[name] + steps
            total += np.abs(in_floats(graph, moved) - base).sum(axis=0) / epsilon
        largest = max(largest, float(total.max()))
    return largest


def _weights(operator: Operator) -> Constant:
    """What a linear operator multiplies by; an Lrn too weak to be seen is a factor."""
    if isinstance(operator, Lrn):
        return Constant(np.full(1, operator.bias**-operator.beta))
    return operator.scale if isinstance(operator, Affine) else operator.weights


def local_error(lowered: Lowered, real: Graph, node: Node, values: dict[str, np.ndarray]) -> float:
    """The most that one integer operator's output is away from what its real form gives on the same inputs."""
    graph, operator = lowered.graph, node.operator
    step = float(2.0 ** -min(graph.types[node.name].fractions))
    given = values[node.inputs[0]]
    largest = float(np.abs(given).max())
    if isinstance(operator, Quantize | Requantize):
        if lowered.saturations[node.name]:  # measured: by how much it clips
            return float(np.abs(values[node.name] - given).max())
        return step / 2
    if isinstance(operator, Conv | Gemm | Affine):
        # What the weights are off, times the inputs, and half a step for the bias.
        raw, exact = (_weights(o) for o in (operator, real.by_name[node.name].operator))
        off = np.abs(np.ldexp(raw.array.astype(np.float64), -np.array(operator.fractions)) - exact.array)
        summed = off if isinstance(operator, Affine) else off.reshape(-1, off.shape[-1]).sum(axis=0)
        return float(summed.max()) * largest + step / 2
    if isinstance(operator, PRelu):
        return float(2.0 ** -(operator.fraction + 1)) * largest
    if isinstance(operator, IntegerSoftmax):
        # Half an index step moves every exponential by the factor exp(2**-9) at most, hence p by p (1 - p) 2 2**-9.
        return float(2.0 ** -(INDEX_FRACTION + 1)) + float(np.exp(-16)) * graph.types[node.name].shape[-1] + step
    if isinstance(operator, Resample):
        before = real.by_name[node.name].operator
        used, exact = (np.multiply.outer(o.row_weights.array, o.column_weights.array) for o in (operator, before))
        return float(np.abs(np.ldexp(used.astype(float), -operator.fraction) - exact).sum(axis=(1, 3)).max()) * largest
    if isinstance(operator, IntegerLrn):
        # The relative error of u within an index, times the exponent; the offset's and the entries' are smaller.
        exponent = abs(real.by_name[node.name].operator.beta)
        entries = np.ldexp(operator.entries.array.astype(np.float64), -operator.fraction)
        relative = exponent * (2.0 ** -(operator.bits + 1) + 2.0 ** -(OFFSET_BITS - 1)) * 1.01
        return largest * (relative * float(entries.max()) + 2.0 ** -(operator.fraction + 1))
    if isinstance(operator, Table | AveragePool | Clip | Pad):
        return step  # entries, quotients, bounds and the padded number are rounded
    return 0.0


def quantization_bound(lowered: Lowered, real: Graph, inputs: dict[str, np.ndarray]) -> float:
    """The sum of all operators' own errors; those made before the case's operator times its sensitivity. Behind it
    stand only operators that add, move, narrow or compare, which make no error larger. Linear operators subtract the
    mean error over the rows of calibration from their bias, which at most doubles what was there.
    """
    given = {i.name: i.from_model(inputs[i.name]) for i in lowered.graph.inputs}
    values = {name: array.astype(np.float64) for name, array in given.items()}

    def observe(name: str, raw: np.ndarray) -> None:
        values[name] = np.ldexp(raw.astype(np.float64), -np.array(lowered.graph.types[name].fractions))

    reference.evaluate(lowered.graph, given, observe)
    gain, total = max(1.0, sensitivity(real, inputs)), 0.0
    for node in lowered.graph.nodes:
        if not isinstance(node.operator, Quantize | Requantize) and not node.operator.is_layout:
            gain = 1.0
        total += gain * local_error(lowered, real, node, values)
        if isinstance(node.operator, Conv | Gemm | Affine):
            total = 2 * total + 2.0 ** -min(lowered.graph.types[node.name].fractions)  # the correction of the bias
    return total


COMPOSITE = {
    *("Mul", "HardSigmoid", "HardSwish", "Elu", "Celu", "Selu", "Softplus", "Gelu", "Mish", "Swish", "ThresholdedRelu"),
    *("MatMul", "LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"),
    *("LSTM", "GRU", "RNN"),
}
"""Operators that become several which scale what those before them rounded: a bound would be a sum over paths."""
INDICES = {"ArgMax", "ArgMin", "Sign"}
RELATIVE = {"8bit": 0.05, "16bit": 0.005}
"""Their largest error over the largest output."""
BITS = {"8bit": Configuration(), "16bit": Configuration(weight_bits=16, activation_bits=16)}


@pytest.mark.parametrize("bits", BITS)
@by_name(CASES)
def test_compiled_case_is_exact_and_within_its_formats(case, bits):
    print(f"seed {SEED}")
    inputs = arrays(case)
    real = real_graph(case)
    lowered = lower(real, inputs, BITS[bits])
    exact = pipeline.run(lowered.graph, pipeline.EXACT_PASSES)
    raw = Simulator(exact, "reference").raw_outputs(inputs)["y"]
    np.testing.assert_array_equal(raw, Simulator(lowered.graph, "reference").raw_outputs(inputs)["y"])
    np.testing.assert_array_equal(raw, Simulator(exact, "fast").raw_outputs(inputs)["y"])
    got = Simulator(exact, "reference").scaled("y", raw)
    wanted = expected(case, inputs)
    if case.op in INDICES:  # inputs that are closer than a step may change places
        assert (got != wanted).mean() <= {"8bit": 0.1, "16bit": 0.0}[bits]
        return
    if case.op in COMPOSITE:
        largest = float(np.abs(wanted).max())
        feedback = (
            2 if case.op in ("LSTM", "GRU", "RNN") else 1
        )  # every step works on the rounded state of the one before
        assert np.abs(got - wanted).max() <= feedback * RELATIVE[bits] * largest
        return
    bound = quantization_bound(lowered, real, inputs) + TOLERANCE
    assert np.abs(got - wanted).max() <= bound
    if bits == "16bit" and case.op not in ("Softmax", "Sigmoid", "Tanh", "LRN"):  # whose tables have indices of 12 bits
        assert bound <= 2e-3 * max(1.0, float(np.abs(wanted).max())), "the bound itself must be worth something"
