"""The fast engine gives the integers of the reference engine on every path it can take, and at the borders of each."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small import rows, two_ports
from toolchain.compiler import compile_model
from toolchain.errors import ConfigurationError, InputError
from toolchain.ir import Constant, FixedType, Graph, Input, Node, Output, Overflow, RealType, Rounding, TensorType
from toolchain.ir.window import Window
from toolchain.ops.add import Add
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.quantize import Quantize
from toolchain.ops.requantize import Requantize
from toolchain.project import load
from toolchain.simulation import reference
from toolchain.simulation.fast import DOUBLE_LIMIT, FastEngine, _Session
from toolchain.simulation.simulator import Simulator


def raw_input(name, shape, type):
    return Input(name, TensorType.of(shape, type), tuple(range(len(shape))))


def gemm(weights, bias=None, width=62):
    weights = np.array(weights, dtype=object)
    bias = np.zeros(weights.shape[1], np.int64) if bias is None else np.array(bias)
    kind = np.int64 if int(np.abs(weights).max(initial=0)) < 2**63 else object
    return Gemm(Constant(weights.astype(kind)), Constant(bias), FixedType(width, width), (0,) * weights.shape[1])


def program(operator, type, size):
    given = raw_input("x", (size,), type)
    node = Node("y", operator, ("x",), "y")
    return Graph("g", (given,), (node,), (Output("y", "y", tuple(range(len(operator.shape((size,)))))),))


def both(graph, inputs):
    """Outputs of both engines, checked to be equal in value; returns the reference's."""
    expected: dict = {}
    got: dict = {}
    slow = reference.evaluate(graph, inputs, lambda name, v: expected.update({name: v}))
    fast = FastEngine(graph).evaluate(inputs)
    FastEngine(graph, observed=True).evaluate(inputs, lambda name, v: got.update({name: v}))
    for name, values in slow.items():
        assert fast[name].shape == values.shape
        assert (fast[name].astype(object) == values.astype(object)).all(), name
    for name, values in got.items():
        assert (values.astype(object) == expected[name].astype(object)).all(), name
    return slow


def path_of(graph):
    (step,) = FastEngine(graph)._steps
    if isinstance(step, _Session):
        return "float32"
    bound = step.operator.bound(*graph.input_types(step))
    return "float64" if bound < DOUBLE_LIMIT else "int64" if bound < 2**63 else "python"


@pytest.mark.parametrize(
    ("bound", "path"),
    [(2**24 - 1, "float32"), (2**24, "float64"), (2**53 - 1, "float64"), (2**53, "int64"), (2**63 - 1, "int64"),
     (2**63, "python"), (2**70 + 1, "python")],
)  # fmt: skip
def test_the_borders_of_each_path(bound, path):
    """Weights and bias sum to the bound: the largest result is reached exactly."""
    total, bias = divmod(bound, 255)
    parts = [total // 3, total // 5, 1]
    parts.append(total - sum(parts))
    graph = program(gemm([[p] for p in parts], [bias]), FixedType(8, 8, False), 4)
    assert path_of(graph) == path
    x = np.array([[255, 255, 255, 255], [254, 1, 255, 0], [255, 255, 255, 254], [0, 0, 0, 0]])
    result = both(graph, {"x": x})["y"]
    assert [int(v) for v in result[:, 0]] == [
        sum(p * int(v) for p, v in zip(parts, row, strict=True)) + bias for row in x
    ]
    assert int(result[0, 0]) == bound


@pytest.mark.parametrize("bound", [2**24 - 1, 2**24])
def test_negative_borders_and_bias(bound):
    """The bias counts, and so do cancelling weights: a partial sum may be larger than every result."""
    half = (bound - 5) // 2
    operator = gemm([[half, half], [-half, -half + 1]], [5, -4])
    graph = program(operator, FixedType(1, 1, False), 2)
    assert operator.bound(graph.inputs[0].type) == 2 * half + 5
    both(graph, {"x": np.array([[1, 1], [0, 1], [1, 0]])})
    wide = program(gemm([[bound - 1], [1]]), FixedType(2, 2), 2)  # -2 .. 1: the lowest counts twice
    assert path_of(wide) == "float64"
    both(wide, {"x": np.array([[-2, -2], [1, -1]])})


def test_one_network_through_all_paths():
    """Each layer widens what comes in; then requantized back, so that float32 follows again."""
    rng = np.random.default_rng(2)
    nodes, value = [], "x"
    for k, width in enumerate((6, 14, 24, 17, 30)):
        weights = rng.integers(-(1 << width), 1 << width, (3, 3))
        nodes.append(Node(f"g{k}", gemm(weights, rng.integers(-99, 99, 3)), (value,), f"g{k}"))
        value = f"g{k}"
    graph = Graph("g", (raw_input("x", (3,), FixedType(8, 8)),), tuple(nodes), (Output("o", value, (0,)),))
    given = graph.types[value]
    narrow = FixedType(9, given.width - given.fraction, True, Rounding.RND_CONV, Overflow.SAT)
    nodes.append(Node("r", Requantize.between(given, narrow), (value,), "r"))
    nodes.append(Node("last", gemm(rng.integers(-9, 9, (3, 2))), ("r",), "last"))
    graph = Graph("g", graph.inputs, tuple(nodes), (Output("o", "last", (0,)), Output("w", value, (0,))))
    engine = FastEngine(graph)
    assert max(type.width for type in graph.types.values()) > 64
    assert isinstance(engine._steps[0], _Session)
    assert isinstance(engine._steps[-1], _Session)
    both(graph, {"x": rng.integers(-128, 128, (9, 3))})
    both(graph, {"x": np.array([[-128] * 3, [127] * 3, [0] * 3])})


@given(st.integers(0, 10**9))
@settings(max_examples=60)
def test_convolution_and_requantize_near_the_border(seed):
    """Random convolutions whose bound lies around 2**24, all roundings and overflows, per-channel shifts, residual."""
    rng = np.random.default_rng(seed)
    channels, outputs = (int(v) for v in rng.integers(1, 5, 2))
    type = FixedType(int(rng.integers(1, 12)), 4, bool(rng.integers(2)))
    width = int(rng.integers(2, 15))
    weights = rng.integers(-(1 << (width - 1)), 1 << (width - 1), (3, 3, channels, outputs))
    fractions = tuple(int(f) for f in rng.integers(0, 9, outputs))
    window = Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    conv = Conv(
        Constant(weights),
        Constant(rng.integers(-(1 << 20), 1 << 20, outputs)),
        window,
        1,
        FixedType(width, 1),
        fractions,
    )
    given = raw_input("x", (4, 3, channels), type)
    first = Graph("g", (given,), (Node("c", conv, ("x",), "c"),), ())
    signed = bool(rng.integers(2))
    overflow = rng.choice([o for o in Overflow if signed or o != Overflow.WRAP_SM])
    target = FixedType(int(rng.integers(1, 14)), int(rng.integers(0, 9)), signed, rng.choice(list(Rounding)), overflow)
    nodes = [*first.nodes, Node("r", Requantize.between(first.types["c"], target), ("c",), "c")]
    nodes.append(Node("a", Add(), ("r", "r"), "a"))
    outs = (Output("a", "a", (0, 1, 2)), *((Output("c", "c", (0, 1, 2)),) if rng.integers(2) else ()))
    graph = Graph("g", (given,), tuple(nodes), outs)
    x = rng.integers(type.low, type.high + 1, (5, 4, 3, channels))
    x[0], x[1] = type.low, type.high
    both(graph, {"x": x})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    data = {"a": rows(70, 2, 6, 6), "b": rows(70, 4, 3, 3, seed=6)}
    return load(compile_model(two_ports(folder / "net.onnx"), folder / "p", calibrate=data).path), data


def test_threads_and_batches_change_nothing(project, monkeypatch):
    loaded, data = project
    whole = loaded.simulator("reference").predict_raw(data)
    for engine in ("fast", "reference"):
        for threads in (1, 2, 5):
            for batch in (1, 7, 64, 1000):
                simulator = loaded.simulator(engine, threads)
                simulator._batch = batch
                got = simulator.predict_raw(data)
                assert set(got) == set(whole)
                for name in whole:
                    assert got[name].dtype == np.int64
                    assert np.array_equal(got[name], whole[name])
    one = [loaded.simulator().predict_raw({k: v[r : r + 1] for k, v in data.items()}) for r in range(70)]
    for name in whole:
        assert np.array_equal(np.concatenate([part[name] for part in one]), whole[name])


def test_layout_of_the_users_arrays(project):
    """Non-contiguous, Fortran-ordered, read-only and double arrays give the same integers, and are not changed."""
    loaded, data = project
    whole = loaded.simulator().predict_raw(data)
    for change in (
        np.asfortranarray,
        lambda v: v.astype(np.float64),
        lambda v: v[::-1].copy()[::-1],
        lambda v: v.astype(">f4"),
    ):
        given = {name: change(values) for name, values in data.items()}
        for values in given.values():
            values.flags.writeable = False
        for engine in ("fast", "reference"):
            got = loaded.simulator(engine).predict_raw(given)
            assert all(np.array_equal(got[name], whole[name]) for name in whole)


def test_traces_are_equal(project):
    loaded, data = project
    few = {name: values[:9] for name, values in data.items()}
    slow = dict(loaded.simulator("reference").trace(few))
    fast = dict(loaded.simulator("fast").trace(few))
    assert list(slow) == [node.name for node in loaded.graph.nodes]
    assert set(fast) <= set(slow)
    # What ONNX Runtime never computes on its own is the sum in front of a Requantize it swallowed.
    assert all(isinstance(loaded.graph.consumers[name][0].operator, Requantize) for name in set(slow) - set(fast))
    for name, values in fast.items():
        assert values.dtype == np.int64
        assert np.array_equal(values, slow[name]), name


def test_predict_is_exactly_raw_times_step(project):
    loaded, data = project
    simulator = loaded.simulator()
    raw, real = simulator.predict_raw(data), simulator.predict(data)
    for output in loaded.graph.outputs:
        fraction = loaded.graph.types[output.value].fraction
        assert real[output.name].dtype == np.float64
        assert [float(v) * 2.0**-fraction for v in raw[output.name].ravel()] == real[output.name].ravel().tolist()


def test_outputs_that_float64_cannot_hold_are_refused():
    """DESIGN: exactly raw x step. 54 significant bits do not fit; their integers are there all the same."""
    graph = program(gemm([[2**53], [1]]), FixedType(1, 1, False), 2)
    for engine in ("fast", "reference"):
        simulator = Simulator(graph, engine)
        x = np.array([[1, 1]])
        assert simulator.predict_raw(x)[0, 0] == 2**53 + 1
        with pytest.raises(InputError, match="53"):
            simulator.predict(x)
        assert simulator.predict(np.array([[1, 0]]))[0, 0] == 2.0**53


def test_wrong_inputs(project):
    loaded, data = project
    simulator = loaded.simulator()
    for wrong in (
        {}, {"a": data["a"]}, {**data, "c": data["a"]}, {"a": data["a"][:3], "b": data["b"]},
        {"a": data["b"], "b": data["a"]}, {"a": data["a"], "b": data["b"].astype(object)},
        {"a": data["a"], "b": None}, {"a": data["a"], "b": 3.0}, data["a"],
    ):  # fmt: skip
        with pytest.raises(InputError):
            simulator.predict(wrong)
    with pytest.raises(InputError):
        simulator.predict({"a": data["a"], "b": np.full((70, 4, 3, 3), np.nan)})


def test_unknown_engine(project):
    with pytest.raises(ConfigurationError, match="reference"):
        project[0].simulator(engine="quick")


def test_integer_arrays_are_raw(project):
    """The same numbers as raw integers and as floats give the same; integers outside are refused."""
    loaded, data = project
    graph = loaded.graph
    types = {node.inputs[0]: node.operator.type for node in graph.nodes if node.inputs[0] in data}
    raw = {name: np.resize(np.arange(-100, 100), (3, *data[name].shape[1:])) for name in data}
    floats = {name: values * types[name].step for name, values in raw.items()}
    for engine in ("fast", "reference"):
        simulator = loaded.simulator(engine)
        a, b = simulator.predict_raw(raw), simulator.predict_raw(floats)
        assert all(np.array_equal(a[name], b[name]) for name in a)
        with pytest.raises(InputError, match="fit"):
            simulator.predict({**raw, "a": raw["a"] * 2})


def test_entry_rounds_half_up_and_saturates():
    """Ties, one unit in the last place around them, saturation, -0.0 and denormals, through both engines."""
    type = FixedType(8, 4, True, Rounding.RND, Overflow.SAT)
    graph = Graph(
        "g", (Input("x", RealType((1,)), (0,)),), (Node("q", Quantize(type), ("x",), "x"),), (Output("y", "q", (0,)),)
    )
    ties = (np.arange(-300, 300) + 0.5) * type.step
    values = np.concatenate(
        [ties, np.nextafter(ties, -np.inf), np.nextafter(ties, np.inf), [-0.0, 5e-324, -5e-324, 1e308, -1e308]]
    )
    wanted = [min(max(int((Fraction(float(v)) * 16 + Fraction(1, 2)).__floor__()), -128), 127) for v in values]
    for engine in ("fast", "reference"):
        assert Simulator(graph, engine).predict_raw(values[:, None])[:, 0].tolist() == wanted


@pytest.mark.parametrize("inputs", [512, 1024, 2048])
def test_the_half_in_the_bias_is_part_of_the_bound(inputs):
    """The sums stay below 2**24 and so does the result with its half, but not the partial sums with the half on top."""
    weights = np.zeros((inputs, 4), np.int64)
    weights[: inputs // 2] = 61_684 // (inputs // 2)
    weights[0] += 61_684 - weights[: inputs // 2, 0].sum()
    weights[inputs // 2 : inputs // 2 + 4] = -1
    linear = gemm(weights, [239] * 4, 32)
    type = TensorType((inputs,), 8, False, (0,), 255, 255)
    narrow = Requantize.between(linear.ranges(type), FixedType(8, 29, True, Rounding.RND, Overflow.SAT))
    assert linear.bound(type) < 1 << 24 > narrow.bound(linear.ranges(type))
    nodes = (Node("y", linear, ("x",), "y"), Node("r", narrow, ("y",), "r"))
    graph = Graph("g", (Input("x", type, (0,)),), nodes, (Output("r", "r", (0,)),))
    x = {"x": np.full((8, inputs), 255)}
    assert np.array_equal(FastEngine(graph).evaluate(x)["r"], reference.evaluate(graph, x)["r"])


def test_padding_beyond_the_kernel():
    """ONNX Runtime refuses a MaxPool padded by its kernel size or more, which dilation makes sensible."""
    pool = MaxPool(Window((2, 2), (1, 1), (4, 4), (2, 2, 2, 2)))
    given = raw_input("x", (6, 6, 2), FixedType(8, 8))
    graph = Graph("g", (given,), (Node("y", pool, ("x",), "y"),), (Output("y", "y", (0, 1, 2)),))
    x = {"x": np.random.default_rng(5).integers(-128, 128, (4, 6, 6, 2))}
    assert np.array_equal(FastEngine(graph).evaluate(x)["y"], reference.evaluate(graph, x)["y"])
