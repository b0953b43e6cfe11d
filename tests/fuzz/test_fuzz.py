"""Random networks on random inputs: every rendering gives the same integers. `make fuzz` runs many more."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice

import pytest

from tests.fuzz import run
from tests.fuzz.__main__ import report
from tests.fuzz.generate import Case, generate
from tests.fuzz.reduce import CRASHERS, reduce
from tests.fuzz.run import Built, Failed, Summary, build, campaign, check
from toolchain.hardware import network
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.simulation.render import Renderer

SEED = 2025
NETWORKS, INPUTS = 16, 32
KEPT = sorted(CRASHERS.glob("*.onnx"))


@pytest.mark.csim
@pytest.mark.fuzz
@pytest.mark.slow
def test_kept_crashers(tmp_path, shared_folder):
    """Everything that ever failed, at once."""
    cases = [Case.load(path) for path in KEPT]
    summary = campaign(cases, INPUTS, tmp_path, shared=shared_folder)
    print(f"crashers: {summary}")
    assert not [f"{case.name}: {failure}" for case, failure in (*summary.failures, *summary.invalid)]


@pytest.mark.csim
@pytest.mark.fuzz
@pytest.mark.slow
def test_random_networks(tmp_path, shared_folder):
    print(f"seeds {SEED} to {SEED + NETWORKS - 1}")
    summary = campaign((generate(SEED + k) for k in range(NETWORKS)), INPUTS, tmp_path, shared=shared_folder)
    print(summary)
    for case, failure in summary.failures:
        report(case, failure, INPUTS, tmp_path, kept=True)
    assert not [f"seed {case.settings.seed}: {failure}" for case, failure in summary.failures]
    assert summary.without_c <= NETWORKS // 4
    assert summary.networks >= NETWORKS - 3, [str(failure) for _, failure in summary.invalid]


def test_a_seed_gives_one_network():
    first, second = generate(SEED), generate(SEED)
    assert first.model == second.model
    assert first.settings == second.settings


def swap_strides(text: str) -> str:
    pattern = r"STRIDE_HEIGHT = (\d+);(\s+static const int )STRIDE_WIDTH = (\d+);"
    return re.sub(pattern, r"STRIDE_HEIGHT = \3;\2STRIDE_WIDTH = \1;", text)


def flip_weights(text: str) -> str:
    return re.sub(r"0x([0-9a-f]+)ULL", lambda found: f"{hex(int(found[1], 16) ^ 1)}ULL", text)


MISTAKES: dict[str, tuple[str, Callable[[str], str]]] = {
    "rounding": ("src/configs.h", lambda text: text.replace("AP_RND,", "AP_TRN,")),
    "dropped_saturation": ("src/configs.h", lambda text: text.replace("AP_SAT>", "AP_WRAP>")),
    "stride": ("src/configs.h", swap_strides),
    "weights": ("src/constants.h", flip_weights),
    "padding": ("src/configs.h", lambda text: re.sub(r"PAD_LEFT = [1-9]", "PAD_LEFT = 0", text)),
}


def with_mistake(name: str, path: str, change: Callable[[str], str]) -> list[Built]:
    """The first few designs that the mistake changes."""
    found = []
    for seed in count(SEED):
        built = build(generate(seed, f"{name}_{seed}"), INPUTS)
        changed = change(built.files[path])
        if changed != built.files[path]:
            found.append(replace(built, files={**built.files, path: changed}))
            if len(found) == 3:
                return found
    raise AssertionError


def with_narrow_accumulators(monkeypatch) -> list[Built]:
    """Linear layers with few inputs, whose largest sums random inputs reach, in one bit less."""
    whole = network._Builder._type

    def narrow(self, name):
        type = whole(self, name)
        node = self.graph.by_name.get(name)
        if node is None or not isinstance(node.operator, Conv | Gemm) or type.width < 3:
            return type
        half = 1 << type.width - 2
        low, high = (-half, half - 1) if type.signed else (0, 2 * half - 1)
        return replace(type, width=type.width - 1, low=max(low, type.low), high=min(high, type.high))

    monkeypatch.setattr(network._Builder, "_type", narrow)
    small = (
        case
        for case in (generate(seed, f"accumulator_{seed}") for seed in count(SEED))
        if case.model.graph.node[0].op_type in ("Gemm", "MatMul", "Conv") and not case.settings.layers
    )
    built = [build(case, INPUTS) for case in islice(small, 6)]
    monkeypatch.undo()
    return built


@pytest.mark.csim
@pytest.mark.fuzz
@pytest.mark.slow
def test_planted_mistakes_are_found(tmp_path, shared_folder, monkeypatch):
    designs = [built for name, (path, change) in MISTAKES.items() for built in with_mistake(name, path, change)]
    designs += with_narrow_accumulators(monkeypatch)
    summary = run._group(designs, tmp_path, run.precompiled_header(shared_folder))
    found = {case.name.rpartition("_")[0] for case, failure in summary.failures if failure.kind == "csim"}
    assert found == {*MISTAKES, "accumulator"}


def test_a_planted_mistake_of_the_fast_engine_is_found_and_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(Renderer, "_saturate_then_floor", lambda self, value, operator, given: self.op("Floor", value))
    for seed in count(SEED):
        case = generate(seed)
        failure = check(case, INPUTS, tmp_path, None)
        if failure is not None:
            break
    assert failure.kind == "fast"
    smaller = reduce(case, failure, lambda c: check(c, INPUTS, tmp_path, None), seconds=20)
    assert len(smaller.model.graph.node) < len(case.model.graph.node)
    assert failure.same(check(smaller, INPUTS, tmp_path, None))
    monkeypatch.undo()
    assert check(smaller, INPUTS, tmp_path, None) is None


def test_fifos_that_are_too_short_are_found():
    """A skip connection past a convolution needs room for what the convolution holds back."""
    stopped = 0
    for seed in range(SEED, SEED + 20):
        design = build(generate(seed), 1).design
        run.check_fifos(design)
        try:
            run.check_fifos(design.with_depths(dict.fromkeys(design.streams, 1)))
        except Failed as failed:
            stopped += failed.failure.error == "deadlock"
    assert stopped


def test_a_kept_case_comes_back(tmp_path):
    case = generate(SEED)
    case.save(tmp_path / "case", found="a test")
    again = Case.load(tmp_path / "case")
    assert again.model == case.model
    assert again.settings == case.settings
    summary = Summary()
    with pytest.raises(Failed):
        run.compare("kind: place", case.arrays(4, 0)["x1"], case.arrays(4, 1)["x1"], summary)
