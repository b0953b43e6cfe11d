"""How much each layer matters, on networks where it is known."""

from dataclasses import replace

import numpy as np
import pytest

from tests.passes.graphs import Builder, random_inputs, random_real_graph
from toolchain.ir import Constant, Graph
from toolchain.ops.add import Add
from toolchain.ops.clip import Clip
from toolchain.ops.gemm import Gemm
from toolchain.ops.linear import LinearOperator
from toolchain.packing.importance import LEAST, measure_importance


def orthogonal(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def gemm(weights, bias=0.0):
    return Gemm(Constant(weights), Constant(np.full(weights.shape[1], bias)))


def chain(*operators, size=16):
    """Operators one after the other, and inputs."""
    build = Builder(np.random.default_rng(0))
    value = build.input((size,))
    for operator in operators:
        value = build.add(operator, value)
    return build.graph(value), {"x0": np.random.default_rng(1).normal(size=(64, size))}


def test_an_error_passes_through_orthogonal_layers():
    """Relative to the layer's output or to the network's, it is the same."""
    rng = np.random.default_rng(2)
    graph, inputs = chain(*(gemm(scale * orthogonal(rng, 16), 3.0) for scale in (1, 20, 0.3)))
    found = measure_importance(graph, inputs)
    assert list(found) == ["n0", "n1", "n2"]
    for value in found.values():
        assert value == pytest.approx(1, rel=0.15)


def test_a_layer_in_front_of_zeros_has_the_least():
    rng = np.random.default_rng(3)
    graph, inputs = chain(gemm(orthogonal(rng, 16)), gemm(np.zeros((16, 16)), 1.0), gemm(orthogonal(rng, 16)))
    assert measure_importance(graph, inputs)["n0"] == LEAST
    mostly = np.diag([1.0] + [0.0] * 15)
    graph, inputs = chain(gemm(orthogonal(rng, 16)), gemm(mostly + 1e-9), gemm(orthogonal(rng, 16)))
    found = measure_importance(graph, inputs)
    assert LEAST < found["n0"] < 2


def test_a_weak_branch_matters_less():
    """In proportion to its share of the energy."""
    rng = np.random.default_rng(4)
    build = Builder(rng)
    x = build.input((16,))
    strong, weak = (build.add(gemm(scale * orthogonal(rng, 16)), x) for scale in (1.0, 0.1))
    graph = build.graph(build.add(Add(), strong, weak))
    found = measure_importance(graph, {"x0": rng.normal(size=(64, 16))})
    assert found[weak] / found[strong] == pytest.approx(0.01, rel=0.2)


def test_a_rectifier_halves_energy_and_noise():
    """So the layer in front of it matters about as much as the one behind."""
    rng = np.random.default_rng(5)
    graph, inputs = chain(gemm(orthogonal(rng, 16)), Clip(0, None), gemm(orthogonal(rng, 16)))
    found = measure_importance(graph, inputs)
    assert 0.5 < found["n0"] / found["n2"] < 2


def test_the_scale_of_the_output_does_not_count():
    rng = np.random.default_rng(6)
    first, last = orthogonal(rng, 16), orthogonal(rng, 16)
    found = [measure_importance(*chain(gemm(first), gemm(last * scale))) for scale in (1.0, 1000.0)]
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_outputs_count_equally():
    """A layer that one of two outputs depends on."""
    rng = np.random.default_rng(7)
    build = Builder(rng)
    x = build.input((16,))
    a, b = (build.add(gemm(scale * orthogonal(rng, 16)), x) for scale in (1.0, 50.0))
    found = measure_importance(build.graph(a, b), {"x0": rng.normal(size=(64, 16))})
    assert found == pytest.approx({a: 0.5, b: 0.5}, rel=0.1)


@pytest.mark.parametrize("seed", range(8))
def test_random_networks(seed):
    """Every linear node has a finite positive importance, the same each time."""
    graph = random_real_graph(seed)
    arrays = random_inputs(graph, seed)
    inputs = {one.name: one.from_model(arrays[one.name]) for one in graph.inputs}
    found = measure_importance(graph, inputs)
    assert list(found) == [node.name for node in graph.nodes if isinstance(node.operator, LinearOperator)]
    assert all(np.isfinite(value) and value >= LEAST for value in found.values())
    assert found == measure_importance(graph, inputs)
    assert not inputs or all(np.array_equal(inputs[n], graph_input) for n, graph_input in again(graph, arrays).items())


def again(graph: Graph, arrays):
    """Inputs as they were: nothing has been written to them."""
    return {one.name: one.from_model(arrays[one.name]) for one in graph.inputs}


def test_a_network_without_linear_layers():
    graph, inputs = chain(Clip(0, None))
    assert measure_importance(graph, inputs) == {}
    assert replace(graph, name="other") != graph
