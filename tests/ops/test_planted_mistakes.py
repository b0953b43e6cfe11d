"""Tests of the tests: mistakes planted in the definition, the fast engine and the hardware have to be noticed.

Each is caught by `first_difference`, the test bench or `schedule_differences`, which are what `test_samples` relies on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.ops.designs import (
    Design,
    Run,
    expected_outputs,
    first_difference,
    folded,
    network_of,
    program,
    program_inputs,
    run_designs,
    schedule_differences,
    with_config,
)
from toolchain.codegen.kernel import Folding, every
from toolchain.hardware.network import Network
from toolchain.ir import Constant, FixedType, Graph, Overflow, Rounding, TensorType
from toolchain.ir.window import Window
from toolchain.ops.average_pool import AveragePool
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.requantize import Requantize
from toolchain.packing.basis import Transform
from toolchain.packing.packed import Clusters, Coding, Packed
from toolchain.quantization.configuration import LayerConfiguration
from toolchain.simulation import fast

SEED = 4711
FRAMES = 6


def requantize() -> Graph:
    given = TensorType.of((3, 4), FixedType(9, 4))
    return program("requantize", Requantize.between(given, FixedType(5, 3, True, Rounding.RND, Overflow.SAT)), (given,))


def conv() -> Graph:
    rng = np.random.default_rng(SEED)
    window = Window((2, 3), (2, 1), (1, 1), (1, 1, 0, 1))
    weights, bias = Constant(rng.integers(-8, 8, (2, 3, 2, 4))), Constant(rng.integers(-9, 9, 4))
    given = TensorType.of((5, 4, 2), FixedType(6, 3))
    return program("conv", Conv(weights, bias, window, 1, FixedType(4, 1), (3,) * 4), (given,))


def average() -> Graph:
    given = TensorType.of((4, 4, 2), FixedType(6, 3))
    return program("average", AveragePool(Window((3, 3)), Constant([[9]]), 2), (given,))


def maximum() -> Graph:
    given = TensorType.of((4, 4, 2), FixedType(6, 3))
    return program("maximum", MaxPool(Window((2, 2), (1, 1), (1, 1), (1, 1, 0, 0))), (given,))


def packed() -> Graph:
    rng = np.random.default_rng(SEED)
    levels = rng.integers(-3, 4, (6, 4, 4)) * (rng.random((6, 4, 4)) < 0.5)
    coding = Coding(Constant(levels), Transform("taps", 2, 3), (1, 0, 2, 0, 1, 0))
    weights, bias = Packed(coding, (2, 3, 4, 4)), Constant(rng.integers(-9, 9, 4))
    conv = Conv(weights, bias, Window((2, 3), (1, 1), (1, 1), (1, 1, 0, 1)), 1, FixedType(8, 1), (0,))
    return program("packed", conv, (TensorType.of((5, 4, 4), FixedType(6, 3)),))


def clustered() -> Graph:
    rng = np.random.default_rng(SEED)
    levels = rng.integers(-3, 4, (4, 4, 4)) * (rng.random((4, 4, 4)) < 0.3)
    clusters = Clusters(Constant(rng.integers(-5, 6, (3, 4))), Constant(rng.integers(0, 3, (4, 4))))
    coding = Coding(Constant(levels), Transform("taps", 2, 2), (1, 0, 2, 0), clusters)
    weights, bias = Packed(coding, (2, 2, 4, 4)), Constant(rng.integers(-9, 9, 4))
    conv = Conv(weights, bias, Window((2, 2)), 1, FixedType(9, 1), (0,))
    return program("clustered", conv, (TensorType.of((5, 4, 4), FixedType(6, 3)),))


def segmented() -> Graph:
    rng = np.random.default_rng(SEED)
    weights = Constant(rng.integers(-4, 4, (3, 3, 4, 4)) * (rng.random((3, 3, 4, 4)) < 0.5))
    conv = Conv(weights, Constant(rng.integers(-9, 9, 4)), Window((3, 3), pads=(1, 1, 1, 1)), 1, FixedType(3, 1), (0,))
    return program("segmented", conv, (TensorType.of((5, 8, 4), FixedType(6, 3)),))


GRAPHS = (requantize(), conv(), average(), maximum(), packed(), clustered(), segmented())
PROGRAMS = {graph.name: graph for graph in GRAPHS}
INPUTS = {name: program_inputs(graph, SEED, FRAMES) for name, graph in PROGRAMS.items()}
EXPECTED = {name: expected_outputs(graph, INPUTS[name]) for name, graph in PROGRAMS.items()}
NETWORKS = {name: network_of(graph, {"y": LayerConfiguration(simd=2)}) for name, graph in PROGRAMS.items()}
SPARSE = {
    "packed": Folding(2, 2, "sparse", "frequency", 3, 2),
    "clustered": Folding(2, 2, "sparse", "frequency", 3, 2, centres=1),
    "segmented": Folding(2, 2, "sparse", "spatial", 6, 4, copies="rows", units=2),
}
NETWORKS |= {name: network for name, one in SPARSE.items() for network in folded(PROGRAMS[name], [one])}


@dataclass(frozen=True)
class Mistake:
    """What a wrong generator would have put into the config of one kernel."""

    name: str
    program: str
    function: str
    changes: dict[str, int | str]


MISTAKES = (
    Mistake("flipped_rounding", "requantize", "requantize", {"fixed_t": "ap_fixed<5, 5, AP_TRN, AP_SAT>"}),
    Mistake("tie_to_even", "requantize", "requantize", {"fixed_t": "ap_fixed<5, 5, AP_RND_CONV, AP_SAT>"}),
    Mistake("dropped_saturation", "requantize", "requantize", {"fixed_t": "ap_fixed<5, 5, AP_RND, AP_WRAP>"}),
    Mistake("saturated_symmetrically", "requantize", "requantize", {"fixed_t": "ap_fixed<5, 5, AP_RND, AP_SAT_SYM>"}),
    Mistake("narrow_target", "requantize", "requantize", {"fixed_t": "ap_fixed<4, 4, AP_RND, AP_SAT>"}),
    Mistake("shift_less_by_one", "requantize", "requantize", {"SHIFT": 2}),
    Mistake("swapped_stride", "conv", "sliding_window", {"STRIDE_HEIGHT": 1, "STRIDE_WIDTH": 2}),
    Mistake("swapped_kernel", "conv", "sliding_window", {"KERNEL_HEIGHT": 3, "KERNEL_WIDTH": 2}),
    Mistake("padding_one_less", "conv", "sliding_window", {"PAD_TOP": 0}),
    Mistake("padding_value", "conv", "sliding_window", {"PADDING": 1}),
    Mistake("narrow_weights", "conv", "matrix_vector", {"weight_t": "ap_int<3>"}),
    Mistake("unsigned_weights", "conv", "matrix_vector", {"weight_t": "ap_uint<4>"}),
    Mistake("narrow_sum", "average", "average_pool", {"sum_t": "ap_int<9>"}),
    Mistake("truncated_quotient", "average", "average_pool", {"ROUND": 0}),
    Mistake("padded_with_zero", "maximum", "sliding_window", {"PADDING": 0}),
    Mistake("one_tap_less", "maximum", "max_pool", {"TAPS": 3}),
    Mistake("shift_of_a_neighbour", "packed", "basis_window", {"shifts_t": "dct::shift_list<0, 1, 2, 0, 1, 0>"}),
    Mistake("narrow_columns", "packed", "basis_window", {"column_t": "ap_int<6>"}),
    Mistake("narrow_responses", "packed", "basis_window", {"sum_t": "ap_int<7>"}),
    Mistake("window_beside", "packed", "basis_window", {"PAD_LEFT": 0}),
    Mistake("swapped_basis", "packed", "basis_window", {"KERNEL_HEIGHT": 3, "KERNEL_WIDTH": 2}),
    Mistake("narrow_centres", "clustered", "centre_responses", {"centre_t": "ap_int<3>"}),
    Mistake("piece_beside", "segmented", "segment_rows", {"PAD_LEFT": 0}),
    Mistake("row_beside", "segmented", "segment_rows", {"PAD_TOP": 2}),
    Mistake("padding_of_pieces", "segmented", "segment_rows", {"PADDING": 1}),
    Mistake("one_tree", "segmented", "sparse_rows", {"UNITS": 1}),
    Mistake("narrow_nonzeros", "segmented", "sparse_rows", {"weight_t": "ap_uint<3>"}),
    Mistake("unsigned_coefficients", "packed", "sparse_matrix_vector", {"weight_t": "ap_uint<3>"}),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    print(f"seed {SEED}")
    designs = [Design(name, NETWORKS[name], INPUTS[name], EXPECTED[name]) for name in PROGRAMS]
    for mistake in MISTAKES:
        network = with_config(NETWORKS[mistake.program], mistake.function, **mistake.changes)
        network = replace(network, name=mistake.name)
        designs.append(Design(mistake.name, network, INPUTS[mistake.program], EXPECTED[mistake.program]))
    return run_designs(designs, tmp_path_factory.mktemp("mistakes"))


@pytest.mark.csim
@pytest.mark.parametrize("name", PROGRAMS)
def test_hardware_without_a_mistake_agrees(name, runs):
    assert first_difference(EXPECTED[name], runs[name].outputs) is None
    assert runs[name].passed
    assert runs[name].said.startswith("PASS")
    assert schedule_differences(NETWORKS[name], runs[name]) == []


@pytest.mark.csim
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_in_the_hardware_is_noticed(mistake, runs):
    run = runs[mistake.name]
    assert first_difference(EXPECTED[mistake.program], run.outputs) is not None
    assert not run.passed
    assert run.said.startswith("FAIL")


# ---------------------------------------------------------------------------------------------- the definition


def with_type(**changes) -> Callable[[pytest.MonkeyPatch], None]:
    """Requantize evaluates with another target than it says."""
    original = Requantize.evaluate

    def plant(monkeypatch):
        def evaluate(self, *inputs):
            return original(replace(self, type=replace(self.type, **changes)), *inputs)

        monkeypatch.setattr(Requantize, "evaluate", evaluate)

    return plant


def with_window(cls, **changes) -> Callable[[pytest.MonkeyPatch], None]:
    """The operator evaluates with another window, keeping the shape where the windows give the same."""
    original = cls.evaluate

    def plant(monkeypatch):
        def evaluate(self, *inputs):
            return original(replace(self, window=replace(self.window, **changes)), *inputs)

        monkeypatch.setattr(cls, "evaluate", evaluate)

    return plant


def shifted_less(monkeypatch) -> None:
    original = Requantize.evaluate
    monkeypatch.setattr(
        Requantize, "evaluate", lambda self, *x: original(replace(self, shifts=tuple(s - 1 for s in self.shifts)), *x)
    )


def floored_average(monkeypatch) -> None:
    def evaluate(self, *inputs):
        totals = self.window.patches(inputs[0], 0).sum(axis=(3, 4))
        return totals * 2**self.extra // self.divisors.array[..., None]

    monkeypatch.setattr(AveragePool, "evaluate", evaluate)


DEFINITIONS = {
    "flipped_rounding": ("requantize", with_type(rounding=Rounding.TRN)),
    "tie_to_even": ("requantize", with_type(rounding=Rounding.RND_CONV)),
    "dropped_saturation": ("requantize", with_type(overflow=Overflow.WRAP)),
    "width_less_by_one": ("requantize", with_type(width=4, integer=2)),
    "shift_less_by_one": ("requantize", shifted_less),
    "swapped_stride": ("conv", with_window(Conv, strides=(1, 2))),
    "shifted_padding": ("conv", with_window(Conv, pads=(0, 1, 1, 1))),
    "swapped_kernel_of_the_maximum": ("maximum", with_window(MaxPool, kernel=(1, 2), pads=(0, 1, 0, 0))),
    "floored_average": ("average", floored_average),
}


@pytest.mark.csim
@pytest.mark.parametrize("mistake", DEFINITIONS)
def test_a_mistake_in_the_definition_is_noticed(mistake, runs, monkeypatch):
    name, plant = DEFINITIONS[mistake]
    plant(monkeypatch)
    wrong = expected_outputs(PROGRAMS[name], INPUTS[name])
    assert first_difference(wrong, runs[name].outputs) is not None


# ---------------------------------------------------------------------------------------------- the fast engine


def test_float32_beyond_its_mantissa_is_noticed(monkeypatch):
    """Odd sums above 2**24 are no float32: without its limit the fast engine would be wrong, and seen to be."""
    weights = np.full((4, 2), (1 << 14) - 1)
    given = TensorType.of((4,), FixedType(14, 14, False))
    graph = program("wide", Gemm(Constant(weights), Constant([1, 0]), FixedType(15, 1), (0,)), (given,))
    inputs = program_inputs(graph, SEED, 64)
    expected = expected_outputs(graph, inputs)
    assert first_difference(expected, fast.FastEngine(graph).evaluate(inputs)["y"]) is None
    monkeypatch.setattr(fast, "FLOAT_LIMIT", 1 << 53)
    assert first_difference(expected, fast.FastEngine(graph).evaluate(inputs)["y"]) is not None


def test_a_wrong_epilogue_is_noticed(monkeypatch):
    graph = program("narrowed", *_conv_parts())
    inputs = program_inputs(graph, SEED, 64)
    expected = expected_outputs(graph, inputs)
    assert first_difference(expected, fast.FastEngine(graph).evaluate(inputs)["y"]) is None
    original = fast.Renderer.epilogue

    def without_half(self, node):
        scale, _, finish = original(self, node)
        return scale, np.array(0.0), finish

    monkeypatch.setattr(fast.Renderer, "epilogue", without_half)
    assert first_difference(expected, fast.FastEngine(graph).evaluate(inputs)["y"]) is not None


def _conv_parts():
    node = PROGRAMS["conv"].by_name["y"]
    given = PROGRAMS["conv"].types["x0/quantize"]
    narrow = Requantize.between(node.operator.ranges(given), FixedType(6, 4, True, Rounding.RND, Overflow.SAT))
    return node.operator, (given,), narrow


# ---------------------------------------------------------------------------------------------- the schedule


def late(schedule):
    return replace(schedule, writes=tuple(replace(loops, start=loops.start + 1) for loops in schedule.writes))


SCHEDULES = {
    "one_step_more": lambda schedule: replace(schedule, steps=schedule.steps + 1),
    "late_write": late,
    "even_reads": lambda schedule: replace(schedule, reads=(every(len(schedule.reads[0])),)),
}


@pytest.mark.csim
@pytest.mark.parametrize("mistake", SCHEDULES)
def test_a_wrong_schedule_is_noticed(mistake, runs):
    network: Network = NETWORKS["conv"]
    processes = tuple(
        replace(p, kernel=replace(p.kernel, schedule=SCHEDULES[mistake](p.kernel.schedule)))
        if p.kernel.function == "matrix_vector"
        else p
        for p in network.processes
    )
    assert schedule_differences(replace(network, processes=processes), runs["conv"])


# ---------------------------------------------------------------------------------------------- the comparison


def test_the_comparison_sees_every_kind_of_difference():
    one = np.arange(6).reshape(2, 3)
    assert first_difference(one, one.copy()) is None
    assert first_difference(one, one.astype(np.float64)) is None
    assert first_difference(one, one.astype(object)) is None
    other = one.copy()
    other[1, 2] += 1
    assert first_difference(one, other) == "index (1, 2): expected 5, got 6"
    assert first_difference(one, one.ravel()) is not None
    assert first_difference(one, one + 0.25) is not None
    assert first_difference(np.array([1 << 70], dtype=object), np.array([1.0])) is not None
