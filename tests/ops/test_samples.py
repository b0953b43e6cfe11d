"""Every integer operator on its own samples: reference, fast engine and generated hardware give the same integers.

Generic over the registry: a new operator is tested here as soon as its file exists.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest

from tests.hardware.tokens import run
from tests.ops.designs import (
    Design,
    all_samples,
    chunks,
    expected_outputs,
    first_difference,
    folded,
    foldings,
    integer_operators,
    network_of,
    program,
    program_inputs,
    run_designs,
    schedule_differences,
    sparse_foldings,
)
from toolchain.codegen.kernel import pattern_steps
from toolchain.hardware.dataflow import MINIMUM_DEPTH, PIPELINE, SMOOTHING, simulate
from toolchain.hardware.dataflow_bounded import finished
from toolchain.hardware.folding import options
from toolchain.hardware.network import Network, Process
from toolchain.ir import Constant, FixedType, Graph, Overflow, Rounding, TensorType
from toolchain.ir.window import Window
from toolchain.ops import Operator
from toolchain.ops.add import Add
from toolchain.ops.clip import Clip
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.requantize import Requantize
from toolchain.ops.softmax import IntegerSoftmax
from toolchain.ops.table import Table
from toolchain.quantization.configuration import LayerConfiguration
from toolchain.simulation import fast

SEEDS = range(71, 75)
HARDWARE_SEED = 71
ROWS = 8
FRAMES = 5
DESIGNS_A_PROGRAM = 160  # designs share what they instantiate: the more of them, the less each costs
OPERATORS = tuple(integer_operators())

SAMPLES = {seed: tuple(all_samples(seed)) for seed in SEEDS}


def cases(operator):
    """(seed, name, sample) of one operator's samples over all seeds."""
    for seed in SEEDS:
        for name, sample in SAMPLES[seed]:
            if type(sample.operator).__name__ == operator:
                yield seed, name, sample


def output_type(sample) -> TensorType:
    return sample.operator.ranges(*sample.inputs)


# ---------------------------------------------------------------------------------------------- the definition itself


@pytest.mark.parametrize("operator", OPERATORS)
def test_all_number_kinds_give_the_same_integers(operator):
    for seed, name, sample in cases(operator):
        where = f"seed {seed}, {name}: {sample}"
        graph = program(name, sample.operator, sample.inputs)
        arrays = list(program_inputs(graph, seed, ROWS).values())
        results = {"object": sample.operator.evaluate(*(a.astype(object) for a in arrays))}
        bound = sample.operator.bound(*sample.inputs)
        if bound < 2**63:
            results["int64"] = sample.operator.evaluate(*arrays)
        if bound < 2**53:
            results["float64"] = sample.operator.evaluate(*(a.astype(np.float64) for a in arrays))
        for kind, result in results.items():
            assert result.shape[1:] == output_type(sample).shape, f"{kind}, {where}"
            assert first_difference(results["object"], result) is None, f"{kind}, {where}"


@pytest.mark.parametrize("operator", OPERATORS)
def test_results_lie_in_the_inferred_range(operator):
    for seed, name, sample in cases(operator):
        where = f"seed {seed}, {name}: {sample}"
        graph = program(name, sample.operator, sample.inputs)
        result = expected_outputs(graph, program_inputs(graph, seed, 64))
        inferred = output_type(sample)
        assert graph.types["y"] == inferred, where
        assert inferred.low <= result.min(), where
        assert result.max() <= inferred.high, where


class Tracked(int):
    """An integer that remembers the largest absolute value that any arithmetic gave."""

    largest = 0

    @classmethod
    def of(cls, value):
        cls.largest = max(cls.largest, abs(value))
        return cls(value)


def _tracking(name):
    method = getattr(int, name)

    def tracked(self, other):
        result = method(self, int(other))
        return Tracked.of(result)

    return tracked


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "lshift", "rshift"):
    setattr(Tracked, f"__{_name}__", _tracking(f"__{_name}__"))


@pytest.mark.parametrize("operator", OPERATORS)
def test_bound_holds_for_everything_met_on_the_way(operator):
    for seed, name, sample in cases(operator):
        where = f"seed {seed}, {name}: {sample}"
        graph = program(name, sample.operator, sample.inputs)
        bound = sample.operator.bound(*sample.inputs)
        Tracked.largest = 0
        arrays = [np.frompyfunc(Tracked.of, 1, 1)(a) for a in program_inputs(graph, seed, 4).values()]
        result = sample.operator.evaluate(*arrays)
        assert max(Tracked.largest, *np.abs(result.astype(object)).ravel()) <= bound, where
        # The worst order of summation: all products with the same sign.
        absolute = {
            field.name: Constant(np.abs(value.array))
            for field in fields(sample.operator)
            if isinstance(value := getattr(sample.operator, field.name), Constant)
        }
        if not absolute or isinstance(sample.operator, Table | IntegerSoftmax):
            continue
        worst = replace(sample.operator, **absolute)
        assert worst.evaluate(*(np.full((1, *t.shape), t.magnitude) for t in sample.inputs)).max() <= bound, where


# ---------------------------------------------------------------------------------------------- the fast engine

PATHS = {
    "onnxruntime": {},
    "float64": {"FLOAT_LIMIT": 0},
    "int64": {"FLOAT_LIMIT": 0, "DOUBLE_LIMIT": 0},
    "object": {"FLOAT_LIMIT": 0, "DOUBLE_LIMIT": 0, "INT64_LIMIT": 0},
}


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    for name, limit in PATHS[request.param].items():
        monkeypatch.setattr(fast, name, limit)
    return request.param


def sessions(engine):
    return [step for step in engine._steps if isinstance(step, fast._Session)]


@pytest.mark.parametrize("operator", OPERATORS)
def test_fast_engine_gives_the_reference(operator, path):
    ran = Counter()
    for seed, name, sample in cases(operator):
        where = f"seed {seed}, {name}: {sample}"
        graph = program(name, sample.operator, sample.inputs)
        inputs = program_inputs(graph, seed, ROWS)
        engine = fast.FastEngine(graph)
        ran["sessions"] += len(sessions(engine))
        assert first_difference(expected_outputs(graph, inputs), engine.evaluate(inputs)["y"]) is None, where
        traced = {}
        fast.FastEngine(graph, observed=True).evaluate(inputs, traced.__setitem__)
        assert first_difference(expected_outputs(graph, inputs), traced["y"]) is None, where
    if path != "onnxruntime" or integer_operators()[operator].render is Operator.render:
        assert not ran["sessions"]
    else:
        assert ran["sessions"]


def test_half_is_exact_where_one_channel_needs_no_rounding():
    """2**23 + 1 + 1/2 is no float32: such a Requantize must not run in float32, alone or taken over."""
    given = TensorType((2,), 24, False, (0, 1), 0, 2**23 + 9)
    target = FixedType(25, 25, True, Rounding.RND, Overflow.SAT)
    graph = program("mixed", Requantize.between(given, target), (given,))
    values = np.array([[2**23 + odd, 2**23 + odd] for odd in range(1, 9)])
    assert (
        first_difference(expected_outputs(graph, {"x0": values}), fast.FastEngine(graph).evaluate({"x0": values})["y"])
        is None
    )


def requantizations(seed, given: TensorType):
    """Some ways to narrow a tensor, as the fast engine takes them over into the operator before."""
    rng = np.random.default_rng(seed)
    for rounding in (Rounding.RND, Rounding.TRN, Rounding.RND_CONV, Rounding.RND_MIN_INF):
        signed, overflow = bool(rng.integers(2)), Overflow(rng.choice(["SAT", "SAT_SYM", "WRAP"]))
        width = int(rng.integers(2, 10))
        fraction = min(given.fractions) - max(0, given.width - width - int(rng.integers(0, 3)))
        yield Requantize.between(given, FixedType(width, width - fraction, signed, rounding, overflow))


@pytest.mark.parametrize("operator", OPERATORS)
def test_fast_engine_takes_a_requantization_over(operator):
    for seed, name, sample in cases(operator):
        for behind in requantizations(seed, output_type(sample)):
            where = f"seed {seed}, {name}: {sample} then {behind}"
            graph = program(name, sample.operator, sample.inputs, behind)
            inputs = program_inputs(graph, seed, ROWS)
            got = fast.FastEngine(graph).evaluate(inputs)["y"]
            assert first_difference(expected_outputs(graph, inputs), got) is None, where


# ---------------------------------------------------------------------------------------------- the hardware


def designs() -> list[Design]:
    """Every sample of every operator, folded in several ways."""
    found = []
    for name, sample in SAMPLES[HARDWARE_SEED]:
        graph = program(name, sample.operator, sample.inputs)
        inputs = program_inputs(graph, HARDWARE_SEED, FRAMES)
        expected = expected_outputs(graph, inputs)
        for number, layers in enumerate(foldings(graph)):
            named = replace(graph, name=f"{name}_folding{number}")
            found.append(Design(named.name, network_of(named, layers), inputs, expected))
        for number, network in enumerate(folded(graph, sparse_foldings(graph))):
            named = replace(network, name=f"{name}_sparse{number}")
            found.append(Design(named.name, named, inputs, expected))
    return found


DESIGNS = designs()
PROGRAMS = chunks(DESIGNS, DESIGNS_A_PROGRAM)


def test_every_operator_is_folded_in_several_ways():
    counts = Counter(design.name.split("_")[0] for design in DESIGNS)
    assert set(counts) == set(OPERATORS)
    names = {design.name.rsplit("_", 1)[0] for design in DESIGNS}
    unfoldable = {"Reshape", "Transpose", "TopK"}  # no hardware at all, and always one lane
    for operator, count in counts.items():
        samples = sum(name.startswith(f"{operator}_") for name in names)
        assert count == samples if operator in unfoldable else count > samples


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.name)
def test_schedule_is_consistent(design):
    for process in design.network.processes:
        kernel = process.kernel
        assert len(kernel.schedule.reads) == len(kernel.inputs) == len(process.inputs)
        ends = [*zip(kernel.schedule.reads, kernel.inputs, strict=True), (kernel.schedule.writes, kernel.output)]
        for pattern, port in ends:
            steps = pattern_steps(pattern)
            assert port.words * port.lanes == port.type.size
            assert len(steps) == port.words
            assert (np.diff(steps) > 0).all(), "one word a step, in order"
            assert steps.min() >= 0
            assert steps.max() < kernel.schedule.steps


@pytest.mark.csim
@pytest.mark.slow
@pytest.mark.parametrize("part", PROGRAMS, ids=lambda part: f"{part[0].name}..{part[-1].name}")
def test_hardware_gives_the_reference(part, tmp_path):
    wrong = hardware_differences(part, tmp_path)
    assert not wrong, "\n".join([f"seed {HARDWARE_SEED}", *wrong])


def hardware_differences(designs: list[Design], folder: Path) -> list[str]:
    """Wrong integers, what the test benches complain of, and steps that are not those of the schedules."""
    runs = run_designs(designs, folder)
    return [
        f"{design.name}: {problem}"
        for design in designs
        for problem in (
            first_difference(design.expected, runs[design.name].outputs),
            None if runs[design.name].passed else runs[design.name].said,
            *schedule_differences(design.network, runs[design.name]),
        )
        if problem
    ]


# ---------------------------------------------------------------------------------------------- short chains


def residual() -> Graph:
    """x -> convolution -> requantize -> + x: the skip connection has to wait for the convolution's window."""
    rng = np.random.default_rng(3)
    given = TensorType.of((5, 4, 4), FixedType(8, 4))
    weights, bias = Constant(rng.integers(-8, 8, (3, 3, 4, 4))), Constant(rng.integers(-9, 9, 4))
    conv = Conv(weights, bias, Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), 1, FixedType(4, 1), (3,) * 4)
    narrow = Requantize.between(conv.ranges(given), FixedType(8, 4, True, Rounding.RND, Overflow.SAT))
    graph = program("residual", conv, (given,), narrow)
    add = replace(graph.nodes[-1], name="sum", operator=Add(), inputs=(graph.nodes[-1].name, "x0/quantize"))
    return replace(graph, nodes=(*graph.nodes, add), outputs=(replace(graph.outputs[0], value="sum"),))


def rectified() -> Graph:
    """Several binary points through a rectifier into a requantization."""
    rng = np.random.default_rng(4)
    given = TensorType.of((4, 5, 2), FixedType(8, 4))
    weights, bias = Constant(rng.integers(-128, 128, (2, 2, 2, 4))), Constant(rng.integers(-999, 999, 4))
    conv = Conv(weights, bias, Window((2, 2)), 1, FixedType(8, 1), (3, 7, 5, 6))
    sums = conv.ranges(given)
    narrow = Requantize.between(sums, FixedType(8, 5, False, Rounding.RND, Overflow.SAT))
    return program("rectified", conv, (given,), Clip(0, None), narrow)


def wide() -> Graph:
    """Sums of more than 64 bits: Python integers in the engines, and words that no native integer holds."""
    rng = np.random.default_rng(5)
    given = TensorType.of((3, 4), FixedType(40, 20))
    weights = Constant(rng.integers(-(2**31), 2**31, (4, 2)))
    gemm = Gemm(weights, Constant([2**62, -(2**61)]), FixedType(32, 2), (30, 28))
    narrow = Requantize.between(gemm.ranges(given), FixedType(16, 24, True, Rounding.RND_CONV, Overflow.SAT))
    assert gemm.bound(given) >= 2**63
    return program("wide", gemm, (given,), narrow)


CHAINS = {graph.name: graph for graph in (residual(), rectified(), wide())}
CHAIN_SEED = 17


@pytest.mark.parametrize("name", CHAINS)
def test_fast_engine_gives_the_reference_on_chains(name, path):
    inputs = program_inputs(CHAINS[name], CHAIN_SEED, 32)
    expected = expected_outputs(CHAINS[name], inputs)
    assert first_difference(expected, fast.FastEngine(CHAINS[name]).evaluate(inputs)["y"]) is None


def test_wide_sums_are_those_of_python_integers():
    graph = CHAINS["wide"]
    inputs = program_inputs(graph, CHAIN_SEED, 32)
    gemm, narrow = graph.by_name["y"].operator, graph.by_name["y0"].operator
    x, weights, bias = (array.astype(object) for array in (inputs["x0"], gemm.weights.array, gemm.bias.array))
    sums = [[[sum(a * w for a, w in zip(row, column, strict=True)) for column in weights.T] for row in f] for f in x]
    assert (
        first_difference(expected_outputs(graph, inputs), narrow.evaluate(np.array(sums, dtype=object) + bias)) is None
    )


@pytest.mark.csim
def test_hardware_of_chains_gives_the_reference(tmp_path):
    found = []
    for name, graph in CHAINS.items():
        inputs = program_inputs(graph, CHAIN_SEED, FRAMES)
        for lanes in (1, 2, 4):
            named = replace(graph, name=f"{name}{lanes}")
            found_options = options(graph, graph.by_name["y"], LayerConfiguration())
            legal = {(o.folding.lanes, o.folding.pe) for o in found_options if o.folding.engine == "dense"}
            simd, pe = max(f for f in legal if f[0] <= lanes and f[1] <= lanes)
            layers = {"y": LayerConfiguration(simd=simd, pe=pe)}
            found.append(Design(named.name, network_of(named, layers), inputs, expected_outputs(graph, inputs)))
    assert hardware_differences(found, tmp_path) == []


# ---------------------------------------------------------------------------------------------- the dataflow simulation


@dataclass
class Running:
    """A process with the next step it has to make."""

    process: Process
    reads: list[set[int]]
    writes: set[int]
    step: int = 0

    @property
    def is_done(self) -> bool:
        return self.step == self.process.kernel.schedule.steps

    def wanted(self) -> list[str]:
        """The streams that its next step reads."""
        return [name for name, at in zip(self.process.inputs, self.reads, strict=True) if self.step in at]


def running(network: Network) -> list[Running]:
    schedules = [(process, process.kernel.schedule) for process in network.processes]
    return [
        Running(process, [set(pattern_steps(r).tolist()) for r in s.reads], set(pattern_steps(s.writes).tolist()))
        for process, s in schedules
    ]


def cycle_by_cycle(network: Network) -> tuple[int, dict[str, int]]:
    """Latency and the most words in each FIFO, by stepping through every cycle with FIFOs that never fill.

    Slow, and with nothing in common with `simulate`.
    """
    produced: dict[str, list[int]] = {name: [] for name in network.streams}  # the cycle in which each word arrives
    consumed: dict[str, list[int]] = {name: [] for name in network.streams}
    processes = running(network)
    cycle = last = 0
    while not all(item.is_done for item in processes):
        for item in processes:
            if item.is_done:
                continue
            wanted = item.wanted()
            internal = [name for name in wanted if name in network.streams]
            taken = {name: len(consumed[name]) for name in internal}
            here = all(len(produced[name]) > k and produced[name][k] < cycle for name, k in taken.items())
            if not here:
                continue
            for name in internal:
                consumed[name].append(cycle)
            if item.step in item.writes:
                last = max(last, cycle + PIPELINE)
                for name in item.process.outputs:
                    produced.setdefault(name, []).append(cycle + PIPELINE)
            item.step += 1
        cycle += 1
        assert cycle < 1_000_000
    most = {}
    for name, stream in network.streams.items():
        assert len(produced[name]) == len(consumed[name]) == stream.port.words, "no word is lost and none is left"
        inside = (
            sum(a <= now for a in produced[name]) - sum(r < now for r in consumed[name]) for now in produced[name]
        )
        most[name] = max(inside)
    return last + 1, most


def finishes(network: Network, depths: Mapping[str, int]) -> bool:
    """Does a frame get through FIFOs of these depths, whatever the timing?"""
    inside = dict.fromkeys(network.streams, 0)
    processes = running(network)
    moved = True
    while moved:
        moved = False
        for item in processes:
            while not item.is_done:
                internal = [name for name in item.wanted() if name in inside]
                written = [n for n in item.process.outputs if n in inside] if item.step in item.writes else []
                if any(inside[n] == 0 for n in internal) or any(inside[n] >= depths[n] for n in written):
                    break
                for name in internal:
                    inside[name] -= 1
                for name in written:
                    inside[name] += 1
                item.step += 1
                moved = True
    return all(item.is_done for item in processes)


NETWORKS = {
    **{f"residual{n}": network_of(residual(), {"y": LayerConfiguration(simd=n, pe=n)}) for n in (1, 2, 4)},
    **{design.name: design.network for design in DESIGNS[::7]},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_timing_is_that_of_a_cycle_by_cycle_simulation(name):
    """With endless FIFOs; `tests/hardware` compares bounded ones, over several frames."""
    network = NETWORKS[name]
    timing = simulate(network)
    latency, most = cycle_by_cycle(network)
    assert finished(network, {}) == run(network, {}).finished
    assert finished(network, {})[0] >= latency  # which has no limit of words under way in a pipeline
    assert timing.latency >= latency
    assert timing.steps == {process.name: process.kernel.schedule.steps for process in network.processes}
    assert timing.interval == max(timing.steps.values()) + PIPELINE
    for stream, words in most.items():
        least = max(MINIMUM_DEPTH, min(words, SMOOTHING), timing.required.get(stream, 0))
        assert timing.depths[stream] >= least, stream


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frame_gets_through_the_chosen_fifos(name):
    timing = simulate(NETWORKS[name])
    assert finishes(NETWORKS[name], timing.depths)
    assert finishes(NETWORKS[name], dict.fromkeys(timing.depths, MINIMUM_DEPTH) | dict(timing.required))


def test_a_skip_connection_without_its_depth_deadlocks():
    for name in ("residual1", "residual2", "residual4"):
        timing = simulate(NETWORKS[name])
        assert max(timing.required.values()) > MINIMUM_DEPTH
        assert not finishes(NETWORKS[name], dict.fromkeys(timing.depths, MINIMUM_DEPTH))
