"""Budgets and the packing of a whole network: promises kept, errors bounded, impossible ones refused."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.small import Model
from toolchain.compiler import container_size
from toolchain.errors import ConfigurationError
from toolchain.frontends import read_graph
from toolchain.ir import Graph
from toolchain.ir.text import to_text
from toolchain.ops.linear import LinearOperator
from toolchain.packing.packed import Packed
from toolchain.passes import pipeline
from toolchain.quantization.budget import ERROR_RATIO, Budget, Packing, lower_packed
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import lower
from toolchain.simulation import reference

ROWS = 160


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


@dataclass(frozen=True)
class Network:
    graph: Graph
    pictures: np.ndarray

    @property
    def data(self):
        return {"x": self.pictures}

    @cache  # noqa: B019 - one network for the module
    def packed(self, budget: str = "", pack: str = "auto", untouched: str = "") -> Packing:
        return self.pack(budget, pack, untouched)

    def pack(self, budget="", pack="auto", untouched=""):
        layers = {untouched: {"pack": "none"}} if untouched else {}
        given = Budget.parse(budget) if budget else None
        return lower_packed(self.graph, self.data, Configuration(pack=pack, layers=layers), container_size, given)

    def __hash__(self):
        return id(self)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Convolutions and a matrix behind them, on smooth pictures."""
    m = Model()
    m.input("x", "N", 2, 8, 8)
    first = m.add("Conv", "x", m.noise(10, 2, 3, 3), m.noise(10), name="first", pads=[1, 1, 1, 1], strides=[2, 2])
    first = m.add("Relu", first, name="relu1")
    second = m.add("Conv", first, m.noise(24, 10, 3, 3), m.noise(24), name="second", pads=[1, 1, 1, 1], strides=[2, 2])
    flat = m.add("Flatten", m.add("Relu", second, name="relu2"), name="flat")
    m.output(m.add("Gemm", flat, m.noise(96, 8), m.noise(8), name="scores"))
    path = m.save(tmp_path_factory.mktemp("network") / "network.onnx")
    noise = np.random.default_rng(0).normal(size=(ROWS, 2, 12, 12))
    smooth = sum(noise[:, :, i : i + 8, j : j + 8] for i in range(5) for j in range(5)) / 5
    graph = pipeline.run(read_graph(path), pipeline.REAL_PASSES)
    return Network(graph, smooth.astype(np.float32))


def linear_nodes(graph):
    return [node for node in graph.nodes if isinstance(node.operator, LinearOperator)]


def multiplications(graph):
    """As the report counts them: of nonzero levels, of all of a kernel that is rounded or not coded at all."""
    total = 0
    for node in linear_nodes(graph):
        weights = node.operator.weights
        dense = node.operator.multiplications(*(t.shape for t in graph.input_types(node)))
        if isinstance(weights, Packed):
            counted = weights.array if weights.coding.rounded else weights.coding.levels.array
            dense = dense // weights.array.size * np.count_nonzero(counted)
        total += dense
    return total


def output_error(network, graph):
    """The root of squared error over energy, the means left out, of the rows that are held out: every fourth."""
    given = {one.name: one.from_model(network.pictures) for one in network.graph.inputs}
    wanted = reference.evaluate(network.graph, {"x": given["x"].astype(np.float64)})
    got = reference.evaluate(graph, given)
    (real,), (raw,) = wanted.values(), got.values()
    scale = graph.types[graph.outputs[0].value].fractions
    real, got = real[3::4], np.ldexp(raw.astype(np.float64), -np.array(scale))[3::4]
    return float(np.sqrt(np.square(got - real).sum() / np.square(real - real.mean(0)).sum()))


# What is written.


@pytest.mark.parametrize(
    ("text", "kind", "amount", "limit"),
    [
        ("28x", "ratio", 28, 100 * 4 / 28),
        ("1.5x", "ratio", 1.5, 400 / 1.5),
        ("450000B", "bytes", 450000, 450000),
        (" 7B ", "bytes", 7, 7),
        ("300kMAC", "multiplications", 300000, 300000),
        ("0.5kMAC", "multiplications", 500, 500),
    ],
)
def test_budgets(text, kind, amount, limit):
    budget = Budget.parse(text)
    assert (budget.kind, budget.amount) == (kind, amount)
    assert budget.limit(100) == pytest.approx(limit)
    assert budget.unit == ("multiplications" if kind == "multiplications" else "bits")


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "28", "28X", "28 x", "-3x", "0x", "0.0B", "1e5B", "infB", "nanx", "3MB", "3KB", "300MAC", "300kmac",
        "1_000B", "28x 3B", "28x\n3", ".5x", "5.x", "0x10B",
    ],
)  # fmt: skip
def test_what_is_no_budget(text):
    with pytest.raises(ConfigurationError, match="28x, 450000B or 300kMAC"):
        Budget.parse(text)


# Within budgets.


@pytest.mark.parametrize(("budget", "pack"), [("6x", "auto"), ("6x", "dct"), ("12x", "auto"), ("900B", "spatial")])
def test_a_budget_of_size_is_kept(network, budget, pack):
    """In bytes of the container, and well used; every layer is coded, in the domain that was asked for."""
    found = network.packed(budget, pack)
    parameters = sum(node.operator.parameters() for node in network.graph.nodes)
    limit = Budget.parse(budget).limit(parameters)
    assert 0.85 * limit < container_size(found.lowered.graph) <= limit
    codings = [node.operator.weights.coding for node in linear_nodes(found.lowered.graph)]
    assert len(codings) == 3
    assert all(c.is_frequency for c in codings) if pack == "dct" else True
    assert not any(c.is_frequency for c in codings) if pack == "spatial" else True


def test_less_room_means_more_error(network):
    errors = [network.packed(budget).lowered.output_error for budget in ("6x", "12x")]
    assert network.packed("6x").plain_error < errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize("pack", ["auto", "dct"])
def test_a_budget_of_multiplications_is_kept(network, pack):
    """In the report's terms: nonzeros times pixels."""
    found = network.packed("5kMAC", pack)
    dense = sum(
        n.operator.multiplications(*(t.shape for t in network.graph.input_types(n))) for n in network.graph.nodes
    )
    assert dense > 12000
    assert 4000 < multiplications(found.lowered.graph) <= 5000
    assert found.lowered.output_error < 0.5


def test_layers_that_are_not_coded_are_part_of_the_budget(network):
    found = network.packed("5kMAC", "auto", "first")
    assert multiplications(found.lowered.graph) <= 5000


def test_a_layer_may_be_left_alone(network):
    found = network.packed("5x", "auto", "first")
    weights = {node.layer: node.operator.weights for node in linear_nodes(found.lowered.graph)}
    assert [isinstance(weights[name], Packed) for name in ("first", "second", "scores")] == [False, True, True]
    parameters = sum(node.operator.parameters() for node in network.graph.nodes)
    assert container_size(found.lowered.graph) <= 4 * parameters / 5


def least_possible(network, budget):
    """What the refusal of a budget names."""
    with pytest.raises(ConfigurationError) as caught:
        network.pack(budget)
    assert "cannot be reached, the least that is possible is " in caught.value.message
    return float(caught.value.message.split()[-1])


def test_what_cannot_be_reached(network):
    """The nearest is named."""
    assert 100 < least_possible(network, "1000x") < 700


def test_the_nearest_is_possible(network):
    nearest = least_possible(network, "9B")
    assert container_size(network.pack(f"{nearest:.0f}B").lowered.graph) <= nearest


# Without a budget, and without packing.


def test_without_a_budget_the_error_is_bounded(network):
    """At most twice that of plain quantization, on rows held out, measured on the program; and it is smaller."""
    found = network.packed()
    plain = lower(network.graph, network.data, Configuration())
    assert found.plan is not None
    assert found.lowered.output_error <= ERROR_RATIO * found.plain_error
    assert found.lowered.output_error > 1.2 * found.plain_error  # it makes use of what it may
    assert container_size(found.lowered.graph) < 0.85 * container_size(plain.graph)
    assert output_error(network, found.lowered.graph) == pytest.approx(found.lowered.output_error, rel=1e-6)
    assert output_error(network, plain.graph) == pytest.approx(found.plain_error, rel=0.1)


def test_no_packing_is_plain_lowering(network):
    found = network.packed("", "none")
    assert found.plan is None
    assert to_text(found.lowered.graph) == to_text(lower(network.graph, network.data, Configuration()).graph)
    assert found.plain_error == found.lowered.output_error
    with pytest.raises(ConfigurationError, match="pack none"):
        network.pack("5x", "none")


def test_it_is_deterministic(network):
    first, again = network.packed("12x"), network.pack("12x")
    assert to_text(first.lowered.graph) == to_text(again.lowered.graph)
    assert first.plan.price == again.plan.price
    assert first.lowered.output_error == again.lowered.output_error


def test_candidates_are_kept_for_the_report(network):
    """The one taken is the first, and is what the program holds."""
    for pack in ("auto", "dct"):
        found = network.packed("6x", pack)
        for node in linear_nodes(found.lowered.graph):
            taken, *others = found.plan.chosen[node.layer]
            assert node.operator.weights.coding == taken.coding
            assert (len(others) >= 1) == (pack == "auto" or taken.coding.transform.size >= 4)
