"""FIFO depths, latency and interval, compared with a step-by-step simulation that is independent of the compiler's."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest

from tests.hardware.designs import DESIGNS, design_of, residual
from tests.hardware.random_networks import random_network
from tests.hardware.tokens import Deadlock, run
from tests.small import Model, dense, rows
from tests.small import run as command
from toolchain.codegen.kernel import pattern_steps
from toolchain.hardware import dataflow, dataflow_bounded, dataflow_depths, dataflow_plan
from toolchain.hardware.dataflow import simulate
from toolchain.hardware.dataflow_bounded import check_progress, finished
from toolchain.hardware.dataflow_depths import SMOOTHING
from toolchain.hardware.dataflow_tokens import MINIMUM_DEPTH


@pytest.fixture(scope="module")
def design(tmp_path_factory):
    folder = tmp_path_factory.mktemp("designs")
    models = {**DESIGNS, "residual": lambda: residual(2, 4)}
    return cache(lambda name, interval=0: design_of(models[name](), folder, interval))


CASES = [(name, interval) for name in DESIGNS for interval in (0, 2000)]


def outcome(simulation, network, depths, frames, delays):
    """When frames are done, or that they never are."""
    try:
        found = simulation(network, depths, frames, delays)
    except (Deadlock, dataflow_bounded.Deadlock):
        return "deadlock"
    return found if isinstance(found, list) else found.finished


def agree(network, depths, delays=None, frames=4):
    """Both simulations give the same cycle for the end of every frame, or both deadlock."""
    slow = outcome(run, network, depths, frames, delays)
    assert outcome(finished, network, depths, frames, delays) == slow
    return slow


@pytest.mark.parametrize(("name", "interval"), CASES)
def test_every_frame_ends_in_the_cycle_that_stepping_gives(design, name, interval):
    """With endless FIFOs, with the chosen ones, and with random ones behind pipelines of any length."""
    found = design(name, interval)
    agree(found.network, {})
    ends = agree(found.network, found.timing.depths)
    assert ends[0] == found.timing.latency
    rng = np.random.default_rng(interval)
    for _ in range(2):
        depths = {
            stream: found.timing.required.get(stream, 2) + int(rng.integers(0, 20)) for stream in found.timing.depths
        }
        agree(found.network, depths, {process.name: int(rng.integers(0, 20)) for process in found.network.processes})


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_random_designs_agree_with_stepping(first):
    """Any schedules, depths and delays, more than one input, deadlocks among them."""
    deadlocks = 0
    for seed in range(first, first + 20):
        network = random_network(seed, inputs=1 + seed % 5 // 4)
        rng = np.random.default_rng(seed)
        for most in (6, 30):
            depths = {stream: int(rng.integers(1, most)) for stream in network.streams}
            delays = {process.name: int(rng.integers(0, 12)) for process in network.processes}
            deadlocks += agree(network, depths, delays) == "deadlock"
    print(f"seeds {first} to {first + 19}: {deadlocks} deadlocks in 40 runs")
    assert 0 < deadlocks < 40


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_random_designs_reach_their_interval(first):
    for seed in range(first, first + 20):
        network = random_network(seed, inputs=1 + seed % 5 // 4)
        check_rate(network, simulate(network), 40)


@pytest.mark.parametrize(("name", "interval"), CASES)
def test_the_interval_of_the_report_is_reached(design, name, interval):
    found = design(name, interval)
    check_rate(found.network, found.timing, 24)


def check_rate(network, timing, frames):
    """After some frames each takes the interval of the report; until then none is further behind."""
    ends = finished(network, timing.depths, frames)
    assert ends[0] == timing.latency
    assert ends[-1] - ends[-2] == timing.interval
    free = finished(network, {}, frames)
    assert all(end >= one for end, one in zip(ends, free, strict=True))
    assert agree(network, timing.depths, frames=3) == ends[:3]


def test_shallow_fifos_are_felt(design):
    """What was measured before depths were chosen for the interval: at most 32 words where nothing needs more."""
    worst = 0.0
    for name, interval in CASES:
        found = design(name, interval)
        depths = {
            stream: max(found.timing.required.get(stream, 0), min(depth, SMOOTHING))
            for stream, depth in found.timing.depths.items()
        }
        ends = finished(found.network, depths, 12)
        worst = max(worst, (ends[-1] - ends[-5]) / 4 / found.timing.interval)
    print(f"up to {worst:.2f} times the interval")
    assert worst > 1.05


@pytest.mark.parametrize(("name", "interval"), CASES)
def test_words_never_exceed_the_depths(design, name, interval):
    found = design(name, interval)
    one = run(found.network, found.timing.depths, frames=3)
    assert all(words <= found.timing.depths[stream] for stream, words in one.most.items())


def test_large_designs_are_bounded_instead(design, monkeypatch):
    """Where running it would take too long, the schedule behind the depths gives a latency that is kept."""
    found = design("inception", 2000)
    monkeypatch.setattr(dataflow, "WORK", 1)
    bound = simulate(found.network)
    assert found.timing.exact
    assert not bound.exact
    assert bound.latency >= found.timing.latency
    assert (bound.interval, bound.depths) == (found.timing.interval, found.timing.depths)
    ends = finished(found.network, bound.depths, 10)
    assert all(end <= bound.latency + k * bound.interval for k, end in enumerate(ends))
    monkeypatch.setattr(dataflow, "KEPT", 0)
    monkeypatch.setattr(dataflow_plan, "KEPT", 0)
    monkeypatch.setattr(dataflow_depths, "LONG", 0)
    coarse = simulate(found.network)
    assert not coarse.exact
    ends = finished(found.network, coarse.depths, 24)
    assert ends[-1] - ends[-2] == coarse.interval
    assert all(end <= coarse.latency + k * coarse.interval for k, end in enumerate(ends))


def most_held(written, read, interval):
    """The most words in a FIFO over twelve frames, by counting; a word that is read makes room a cycle later."""
    events = [(int(cycle) + k * interval, 1) for k in range(12) for cycle in written]
    events += [(int(cycle) + k * interval, -1) for k in range(12) for cycle in read]
    most = held = 0
    for _, change in sorted(events, key=lambda event: (event[0], -event[1])):
        held += change
        most = max(most, held)
    return most


def test_occupancy_is_what_counting_gives():
    rng = np.random.default_rng(4)
    for _ in range(200):
        words, interval = int(rng.integers(1, 12)), int(rng.integers(20, 40))
        written = np.sort(rng.choice(interval, words, replace=False)).astype(np.int64)
        read = written + 1 + int(rng.integers(0, 3 * interval))
        read += np.sort(rng.integers(0, interval - int(written[-1] - written[0]), words))
        most = most_held(written, read, interval)
        assert dataflow_depths.occupancy(written, read, interval, words) == most
        assert most <= dataflow_depths.occupancy(written[::4], read[::4], interval, words, 4) <= most + 6


def test_the_schedule_behind_the_depths_is_possible(monkeypatch):
    """What the proof of the interval rests on: steps in order, words before they are read, frames that do not meet."""
    monkeypatch.setattr(dataflow_depths, "SMOOTHING", 2)  # so that small FIFOs cost something, too
    for network in (random_network(seed) for seed in range(60)):
        timing, plans = simulate(network), dataflow_plan.make_plans(network)
        chooser = dataflow_depths.Chooser(network, plans, timing.interval, timing.required)
        chooser.improve()
        assert chooser.depths() == timing.depths
        written, read = {}, {}
        for plan, late in zip(plans, chooser.schedule, strict=True):
            steps = np.arange(plan.steps) + late.at(np.arange(plan.steps))
            assert steps[0] >= 0
            assert (np.diff(steps) > 0).all()
            assert steps[-1] + dataflow.PIPELINE < steps[0] + timing.interval
            written |= dict.fromkeys(plan.process.outputs, steps[plan.writes] + dataflow.PIPELINE)
            read |= {name: steps[plan.reads(k)] for k, name in enumerate(plan.process.inputs)}
        for name in network.streams:
            assert (written[name] < read[name]).all()
            assert most_held(written[name], read[name], timing.interval) <= timing.depths[name]


def test_the_least_closure_is_the_best_of_all_sets():
    rng = np.random.default_rng(5)
    for _ in range(100):
        count = int(rng.integers(1, 8))
        weights = {k: float(rng.integers(-9, 10)) for k in range(count)}
        needs = [(a, int(rng.integers(0, count))) for a in range(count) if rng.random() < 0.6]
        sets = (set(s) for size in range(count + 1) for s in combinations(range(count), size))
        best = min(sum(weights[k] for k in s) for s in sets if all(b in s for a, b in needs if a in s))
        found = set(dataflow_depths.least_closure(weights, needs))
        assert all(b in found for a, b in needs if a in found)
        assert sum(weights[k] for k in found) == best


@pytest.mark.parametrize("name", ["skip", "inception", "global_skip"])
def test_no_timing_deadlocks(design, name):
    """The depths are proved from word counts alone: pauses and pipeline lengths of any kind change nothing."""
    found = design(name)
    required = {stream: found.timing.required.get(stream, 2) for stream in found.timing.depths}
    rng = np.random.default_rng(6)
    for _ in range(4):
        delays = {process.name: int(rng.integers(0, 30)) for process in found.network.processes}
        share = float(rng.choice([0.0, 0.3]))
        run(found.network, required, frames=2, delays=delays, pause=lambda share=share: rng.random() < share)


def at_once(network):
    """Pipelines without stages: nothing but FIFOs and the processes' own memories holds a word."""
    return {process.name: 0 for process in network.processes}


def passes(network, depths):
    try:
        check_progress(network, depths, delays=at_once(network))
    except dataflow_bounded.Deadlock:
        return False
    return True


def required_of(network):
    """Depths that are just required, and the streams that have to hold words."""
    required = simulate(network).required
    depths = {stream: max(1, required.get(stream, 1)) for stream in network.streams}
    assert passes(network, depths)
    return depths, [stream for stream, words in required.items() if words > MINIMUM_DEPTH]


def least_depth(network, depths, stream):
    """The least depth of one FIFO with which a frame passes; stepping agrees about it and about one slot less."""
    low, high = 0, depths[stream]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(network, {**depths, stream: middle}) else (middle, high)
    assert outcome(run, network, {**depths, stream: high}, 1, at_once(network)) != "deadlock"
    if low:
        assert outcome(run, network, {**depths, stream: low}, 1, at_once(network)) == "deadlock"
    print(f"{network.name}, {stream}: required {depths[stream]}, deadlocks below {high}")
    return high


@pytest.mark.parametrize("name", ["skip", "residual"])
def test_one_slot_less_than_required_deadlocks(design, name):
    """The count is exact where a stream comes directly from what feeds the others, too."""
    network = design(name).network
    depths, critical = required_of(network)
    assert len(critical) == {"skip": 1, "residual": 2}[name]
    for stream in critical:
        assert least_depth(network, depths, stream) == depths[stream]


@pytest.mark.parametrize("name", ["inception", "global_skip", "random"])
def test_what_is_required_is_enough(design, name):
    """Elsewhere FIFOs and memories in front of a stream hold some of the words: it deadlocks further down, or never."""
    networks = [random_network(seed) for seed in range(40)] if name == "random" else [design(name).network]
    exact = found = 0
    for network in networks:
        depths, critical = required_of(network)
        for stream in critical:
            least = least_depth(network, depths, stream)
            assert least <= depths[stream]
            exact += least == depths[stream]
            found += 1
    print(f"{exact} of {found} exact")
    assert found >= {"inception": 8, "global_skip": 2, "random": 20}[name]
    assert exact or name != "random"


def test_one_slot_less_is_felt(design):
    """On the critical FIFO one slot less costs cycles; a few less deadlock, and the simulation notices."""
    found, stream = design("skip"), "r_requantize_copy_2"
    required = found.timing.required[stream]
    most = run(found.network, {}).most[stream]
    assert found.timing.depths[stream] >= required > MINIMUM_DEPTH
    endless = dict.fromkeys(found.timing.depths, 1 << 40)
    assert run(found.network, {**endless, stream: most}).blocked == 0
    assert run(found.network, {**endless, stream: most - 1}).blocked > 0
    shallow = {**dict.fromkeys(found.timing.depths, 2), **found.timing.required}
    run(found.network, shallow)
    assert agree(found.network, {**shallow, stream: 2}) == "deadlock"
    with pytest.raises(dataflow_bounded.Deadlock, match=r"r_requantize_copy_2 with 2 words"):
        finished(found.network, {**shallow, stream: 2})


def test_stalling_pipelines_are_not_what_the_proof_is_about(design, tmp_path):
    """A pipeline that freezes while it waits keeps words back and deadlocks: the tool must be told otherwise."""
    found = design("skip")
    with pytest.raises(Deadlock):
        run(found.network, found.timing.depths, flushing=False)
    np.save(tmp_path / "x.npy", rows(8, 6))
    path = dense(tmp_path / "net.onnx")
    assert command("compile", path, "--calibrate", tmp_path / "x.npy", "-o", tmp_path / "p") == 0
    assert "pipeline_style frp" in (tmp_path / "p/hls/run_hls.tcl").read_text()
    assert "pipeline_style=frp" in (tmp_path / "p/hls/hls_config.cfg").read_text()


def test_depths_are_the_ones_that_are_generated(design):
    found = design("skip")
    assert {name: stream.depth for name, stream in found.network.streams.items()} == dict(found.timing.depths)
    assert min(found.timing.depths.values()) >= 2


@pytest.mark.parametrize("name", DESIGNS)
def test_every_word_that_is_written_is_read(design, name):
    """Schedules agree with the sizes of the streams, and every stream has one writer and one reader."""
    network = design(name).network
    written: dict[str, int] = {}
    read: dict[str, int] = {}
    for process in network.processes:
        schedule = process.kernel.schedule
        for stream in process.outputs:
            assert stream not in written
            written[stream] = len(pattern_steps(schedule.writes))
        for stream, pattern in zip(process.inputs, schedule.reads, strict=True):
            assert stream not in read
            steps = pattern_steps(pattern)
            assert (np.diff(steps) > 0).all()
            assert steps.min() >= 0
            assert steps.max() < schedule.steps
            read[stream] = len(steps)
    for stream, port in ((name, s.port) for name, s in network.streams.items()):
        assert written[stream] == read[stream] == port.words


def crossed() -> Model:
    """Each of two inputs goes directly into one concatenation and through a convolution into the other."""
    m = Model()
    for name in "ab":
        m.input(name, "N", 8, 12, 12)
    a, b = (m.add("Conv", name, m.noise(8, 8, 3, 3), name=f"c{name}", pads=[1, 1, 1, 1]) for name in "ab")
    m.output(m.add("Concat", "a", b, name="ya", axis=2))
    m.output(m.add("Concat", "b", a, name="yb", axis=2))
    return m


@pytest.mark.parametrize("interval", [0, 20_000])
def test_inputs_that_cross_do_not_deadlock(tmp_path, interval):
    """There is no common ancestor to count from, so that where they meet a FIFO holds a whole frame."""
    found = design_of(crossed(), tmp_path, interval, "pynq-z2")
    run(found.network, found.timing.depths, frames=2)
    shallow = {name: min(depth, 32) for name, depth in found.timing.depths.items()}
    with pytest.raises(Deadlock):
        run(found.network, shallow, frames=2)
