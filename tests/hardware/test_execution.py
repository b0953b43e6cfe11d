"""Which engine executes a layer, what it costs in cycles, and that choosing builds no schedule."""

import itertools

import numpy as np
import pytest

from tests.hardware.designs import DESIGNS, program_of
from tests.ops.designs import HUGE, program
from toolchain.codegen.kernel import Folding
from toolchain.codegen.sparse import Nonzeros
from toolchain.codegen.sparse_rows import Trees
from toolchain.hardware.folding import fold, options
from toolchain.hardware.foldings import UNROLL
from toolchain.hardware.network import WORD_BITS, build_network
from toolchain.ir import Constant, FixedType, Graph, TensorType
from toolchain.ir.window import Window
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.packing.basis import Transform
from toolchain.packing.packed import Clusters, Coding, Packed
from toolchain.quantization.configuration import Configuration, LayerConfiguration

FREE = LayerConfiguration()
ENGINES = {"spatial": {("dense", "spatial"), ("sparse", "spatial")}, "frequency": {("sparse", "frequency")}}
ENGINES["auto"] = ENGINES["spatial"] | ENGINES["frequency"]


def layer(
    size: int = 16, channels: int = 8, outputs: int = 8, density: float = 0.3, input_bits: int = 8, **changes
) -> Graph:
    """A 3x3 convolution whose coefficients are sparse."""
    rng = np.random.default_rng(5)
    shape = (9, channels, outputs)
    levels = rng.integers(-7, 8, shape) * (rng.random(shape) < density)
    kernel = changes.pop("kernel", (3, 3))
    transform = changes.pop("transform", Transform("taps", 3, 3))
    coding = Coding(Constant(levels), transform, changes.pop("shifts", (0,) * transform.size), **changes)
    weights = Packed(coding, (*kernel, channels, outputs))
    conv = Conv(weights, Constant(np.zeros(outputs, int)), Window(kernel, pads=(1, 1, 1, 1)), 1, FixedType(12, 1), (0,))
    return program("layer", conv, (TensorType.of((size, size, channels), FixedType(input_bits, 1)),))


def engines(graph: Graph, configuration: LayerConfiguration = FREE, execute: str = "auto") -> set[tuple[str, str]]:
    found = options(graph, graph.by_name["y"], configuration, execute)
    return {(o.folding.engine, o.folding.domain) for o in found}


@pytest.mark.parametrize("execute", ENGINES)
def test_execute_of_the_network_and_of_the_layer(execute):
    graph = layer()
    assert engines(graph, execute=execute) == ENGINES[execute]
    for other in ENGINES:
        assert engines(graph, LayerConfiguration(execute=execute), other) == ENGINES[execute]
        assert engines(graph, LayerConfiguration(pe=4, execute=execute), other) == {("dense", "spatial")}


@pytest.mark.parametrize(
    "graph",
    [
        layer(rounded=1),
        layer(transform=Transform()),
        layer(kernel=(1, 9)),  # coded as if it had other taps
    ],
    ids=["rounded", "spatial", "taps"],
)
def test_what_cannot_be_executed_in_frequency_is_executed_spatially(graph):
    assert graph.by_name["y"].operator.frequency_coding is None
    for execute in ENGINES:
        assert engines(graph, execute=execute) == ENGINES["spatial"]


def test_words_too_wide_for_the_basis_stage_leave_the_spatial_engines():
    rng = np.random.default_rng(1)
    levels = Constant(rng.integers(-1, 2, (121, 1, 2)))
    weights = Packed(Coding(levels, Transform("taps", 11, 11), (0,) * 121), (11, 11, 1, 2))
    conv = Conv(weights, Constant([0, 0]), Window((11, 11)), 1, FixedType(16, 1), (0,))
    graph = program("wide", conv, (TensorType.of((12, 12, 1), FixedType(22, 1)),))
    assert conv.frequency_coding is not None
    assert engines(graph) == engines(graph, execute="frequency") == ENGINES["spatial"]


def test_a_depthwise_convolution_has_one_engine():
    weights, bias = Constant(np.ones((3, 3, 1, 8), int)), Constant(np.zeros(8, int))
    conv = Conv(weights, bias, Window((3, 3)), 8, FixedType(4, 1), (0,))
    graph = program("depthwise", conv, (TensorType.of((6, 6, 8), FixedType(8, 1)),))
    for execute in ENGINES:
        assert engines(graph, execute=execute) == {("dense", "spatial")}


def test_frequency_reaches_the_hardware():
    graph = layer()
    network = build_network(graph, fold(graph, HUGE, Configuration(execute="frequency")))
    functions = [process.kernel.function for process in network.processes]
    assert functions[functions.index("basis_window") + 1] == "sparse_matrix_vector"
    config = network.processes[functions.index("sparse_matrix_vector")].kernel.config
    operator = graph.by_name["y"].operator
    assert config["FREQUENCY"] == 1
    assert config["NONZEROS"] == np.count_nonzero(operator.weights.coding.coefficients)
    assert {"MACS", "GROUP_PIXELS", "FILL", "STEPS", "DRAIN", "PE", "SIMD"} <= config.keys()


def clustered_layer(density: float, size: int = 16, count: int = 4) -> Graph:
    """Blocks that are one of a few full centres, and a private residual of this density."""
    rng = np.random.default_rng(2)
    centres = Constant(rng.integers(-7, 8, (count, 9)) | 1)
    clusters = Clusters(centres, Constant(rng.integers(0, count, (32, 32))))
    return layer(size, 32, 32, density, clusters=clusters)


def test_centres_that_pay_get_the_clustered_unit():
    """One addition for a block's centre and few residuals, instead of nine multiplications."""
    graph = clustered_layer(0.05)
    chosen = fold(graph, HUGE, Configuration(execute="frequency"), interval=20_000)["y"]
    assert chosen.centres > 0
    network = build_network(graph, {**fold(graph, HUGE, Configuration()), "y": chosen})
    kernels = {process.kernel.function: process.kernel for process in network.processes}
    coding = graph.by_name["y"].operator.weights.coding
    additions = coding.clusters.indices.array.size
    assert kernels["sparse_matrix_vector"].config["NONZEROS"] == np.count_nonzero(coding.levels.array) + additions
    assert kernels["centre_responses"].config["CENTRES"] == 4
    assert kernels["centre_responses"].schedule.steps <= kernels["sparse_matrix_vector"].schedule.steps


def test_centres_that_do_not_pay_are_added_to_the_coefficients():
    chosen = fold(clustered_layer(0.9), HUGE, Configuration(execute="frequency"), interval=20_000)["y"]
    assert chosen.engine == "sparse"
    assert chosen.centres == 0


def test_the_decoder_of_loaded_weights_adds_the_centres():
    graph = clustered_layer(0.05)
    assert not any(o.folding.centres for o in options(graph, graph.by_name["y"], FREE, "frequency", 8))


def test_centres_of_nothing_are_no_unit():
    clusters = Clusters(Constant(np.zeros((2, 9), int)), Constant(np.zeros((8, 8), int)))
    graph = layer(clusters=clusters)
    assert not any(o.folding.centres for o in options(graph, graph.by_name["y"], FREE))


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(16, 16, 16), (32, 8, 8), (8, 32, 16)])
def test_cycles_follow_the_nonzeros(shape, density):
    """At most a tenth more than nonzeros a multiplier, where neither fill nor drain binds and rounds are many."""
    graph = layer(*shape, density)
    node, types = graph.by_name["y"], graph.types
    pixels, seen = shape[0] ** 2, 0
    for option in options(graph, node, FREE):
        if option.folding.engine == "dense" or option.folding.copies == "rows":
            continue
        *_, unit = node.operator.kernels(graph.input_types(node), types["y"], option.folding)
        config = unit.config
        full = max(config["FILL"], config["STEPS"], config["DRAIN"])
        groups = pixels // option.folding.pixels
        rest = config["FILL"] + config["PARTIALS"] + config["EMIT"] + 3 * full
        assert groups * full <= unit.schedule.steps + 3 * full
        assert unit.schedule.steps <= groups * full + rest
        if full == config["STEPS"] and groups >= 40:
            seen += 1
            ideal = config["NONZEROS"] * pixels / (option.folding.macs * option.folding.pixels)
            assert unit.schedule.steps <= 1.1 * ideal, option.folding
    assert seen >= 5


@pytest.mark.parametrize("density", [0.1, 0.5, 0.85])
@pytest.mark.parametrize("shape", [(16, 16, 16), (32, 8, 8), (8, 32, 16)])
def test_cycles_on_copies_of_rows_follow_the_nonzeros(shape, density):
    """Nonzeros fill whole trees of multipliers; where they do, a tenth more than nonzeros a multiplier at most."""
    graph = layer(*shape, density, transform=Transform())
    node, types = graph.by_name["y"], graph.types
    seen = 0
    for option in options(graph, node, FREE):
        if option.folding.copies != "rows":
            continue
        first, unit = node.operator.kernels(graph.input_types(node), types["y"], option.folding)
        config, f = unit.config, option.folding
        pieces, row = shape[0] // f.pixels, (shape[0] // f.pixels + 2) * shape[1]
        full = max(config["FILL"], config["STEPS"], config["EMIT"])
        # Three rows come in before, and the last row of outputs leaves alone.
        assert unit.schedule.steps == 3 * row + shape[0] * pieces * full + pieces * config["EMIT"]
        assert first.schedule.steps >= (shape[0] + 2) * row
        kept = np.count_nonzero(node.operator.weights.array.reshape(-1, shape[2]), axis=0)
        trees = (-(-np.maximum(kept, 1) // (f.macs // f.units))).sum()
        assert trees <= config["STEPS"] * f.units <= trees + 2 * f.units * shape[2]
        if full == config["STEPS"]:
            idle = config["STEPS"] * f.macs / config["NONZEROS"]
            seen += idle <= 1.1
    assert seen >= 3


def test_hardly_any_zero_is_no_case_for_copies_of_rows():
    graph = layer(16, 16, 16, 1.0)
    assert not any(option.folding.copies == "rows" for option in options(graph, graph.by_name["y"], FREE))


@pytest.mark.parametrize(("macs", "units"), [(1, 1), *itertools.product((4, 12, 28), (1, 2, 4))])
def test_trees_hold_one_output_each(macs, units):
    """Walks through the plan as the hardware does: every output gets just its own trees, in order."""
    rng = np.random.default_rng(macs * 10 + units)
    for counts in (rng.integers(0, 60, 20), np.zeros(7, int), np.ones(9, int), np.array([5])):
        plan, size = Trees.of(counts, macs, units), macs // units
        owner = np.full(plan.steps * units, -1)
        for output, (start, count) in enumerate(zip(plan.starts, counts, strict=True)):
            owner[start : start + -(-max(count, 1) // size)] = output
        output, held = 0, set()
        for step, boundary in enumerate(plan.boundaries):
            mine, complete = owner[step * units : (step + 1) * units], boundary >= Trees.COMPLETE
            held |= set(mine[: boundary % Trees.COMPLETE]) - {-1}
            rest = set(mine[boundary % Trees.COMPLETE :]) - {-1}
            assert complete or not rest
            if complete:
                assert held == {output}
                output, held = output + 1, rest
        assert output == len(counts)
        assert not held


def test_options_are_few_and_within_limits():
    graph = layer(32, 64, 64, 0.2)
    node = graph.by_name["y"]
    found = options(graph, node, FREE)
    assert len(found) <= 1200
    assert len({option.folding for option in found}) == len(found)
    for option in found:
        kernels = node.operator.kernels(graph.input_types(node), graph.types["y"], option.folding)
        copies = option.folding.macs * option.folding.pixels
        assert copies * kernels[-1].inputs[0].lanes <= UNROLL
        assert all(port.bits <= WORD_BITS for kernel in kernels for port in (*kernel.inputs, kernel.output))


def test_choosing_builds_no_schedule(monkeypatch):
    monkeypatch.setattr(Nonzeros, "entries", lambda *_: pytest.fail("a schedule was built"))
    graph = layer(16, 16, 16)
    assert options(graph, graph.by_name["y"], FREE)
    build_network(graph, fold(graph, HUGE, Configuration(execute="frequency")))


def test_few_nonzeros_make_the_sparse_engine_the_cheaper_one():
    """And without any zero the dense one, which needs no schedule."""
    sparse, dense = layer(16, 32, 32, 0.05), layer(16, 32, 32, 1.0)
    for graph, engine in ((sparse, "sparse"), (dense, "dense")):
        chosen = fold(graph, HUGE, Configuration(), interval=100_000)["y"]
        assert chosen.engine == engine


@pytest.mark.parametrize("name", ["skip", "chain"])
def test_whole_networks_keep_their_rate(tmp_path, name):
    """Sparse engines on plain weights: never slower than the dense ones alone, given the same target."""
    graph = program_of(DESIGNS[name](), tmp_path)
    for target in (500, 5000):
        steps = []
        for execute in ("auto", "spatial"):
            network = build_network(graph, fold(graph, HUGE, Configuration(execute=execute), target))
            steps.append(max(process.kernel.schedule.steps for process in network.processes))
        assert steps[0] == steps[1]


def test_an_output_without_weights_and_a_matrix_of_zeros():
    gemm = Gemm(Constant(np.zeros((6, 4), int)), Constant([1, -2, 3, 4]), FixedType(3, 1), (0,))
    graph = program("zeros", gemm, (TensorType.of((6,), FixedType(8, 1)),))
    (unit,) = gemm.kernels(
        graph.input_types(graph.by_name["y"]), graph.types["y"], Folding(2, 2, "sparse", "spatial", 3)
    )
    assert unit.config["NONZEROS"] == 4
    assert unit.config["STEPS"] == 2
    assert unit.arrays["schedule"].values.shape[0] == 2
