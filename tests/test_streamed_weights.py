"""Hardware that reads its weights from DDR for every frame: the C simulation against the simulator, and its cycles."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.containers import build_bench, changed, container_of, run_driver
from tests.small import Model, rows
from tests.streamed import streamed_only
from toolchain.codegen.loaded import streams_of
from toolchain.codegen.sparse import Nonzeros
from toolchain.codegen.streamed import LATENCY, lane_steps
from toolchain.compiler import compile_model
from toolchain.errors import ConfigurationError
from toolchain.ir import Constant
from toolchain.packing import choice
from toolchain.project import load, store_program
from toolchain.verification import csim
from toolchain.verification.lint import lint_hls

SUBSTREAM = 60
"""Bytes, so that small layers have several."""
SETTINGS = {
    "model": {"weight_memory": "streamed", "pack": "spatial"},
    "layers": {"stem": {"pack": "dct"}, "taps": {"pack": "dct"}},
}


def network(path):
    """Constants that are coded, taps in frequency, groups, a depthwise layer, a matrix."""
    m = Model()
    m.input("x", 1, 2, 8, 8)
    same = {"pads": [1, 1, 1, 1]}
    x = m.add("Relu", m.add("Conv", "x", m.noise(8, 2, 3, 3), m.noise(8), name="stem", **same), name="a")
    x = m.add("Relu", m.add("Conv", x, m.noise(8, 8, 3, 3), m.noise(8), name="taps", strides=[2, 2], **same), name="b")
    x = m.add("Relu", m.add("Conv", x, m.noise(8, 1, 3, 3), name="depth", group=8, **same), name="c")
    x = m.add("Conv", x, m.noise(12, 4, 1, 2), m.noise(12), name="grouped", group=2)
    x = m.add("Gemm", m.add("Flatten", x, name="flat"), m.noise(144, 8), m.noise(8), name="scores")
    m.output(x)
    return m.save(path)


@pytest.fixture(scope="module")
def data():
    return rows(64, 2, 8, 8)


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("streamed")
    with pytest.MonkeyPatch.context() as patch:
        streamed_only(patch)
        patch.setattr(choice, "SUBSTREAM", SUBSTREAM)
        compile_model(network(folder / "net.onnx"), folder / "p", calibrate=data, config=SETTINGS)
    return load(folder / "p")


@pytest.fixture(scope="module")
def built(made, tmp_path_factory, quick_cxxflags):
    """The test bench and the objects it was linked from."""
    return build_bench(made.path / "hls", tmp_path_factory.mktemp("build"), quick_cxxflags)


def test_layers_are_streamed_in_the_domain_of_their_coding(made):
    engines = {layer["layer"]: layer["engine"] | {"domain": layer["execution"]} for layer in made.report["layers"]}
    assert {name: (one["unit"], one.get("lanes"), one["domain"]) for name, one in engines.items() if one["unit"]} == {
        "stem": ("dense", None, "spatial"),
        "taps": ("streamed", 1, "frequency"),
        "depth": ("dense", None, "spatial"),
        "grouped": ("streamed", 2, "spatial"),
        "scores": ("streamed", 4, "spatial"),
    }
    hardware = made.report["hardware"]
    assert hardware["weight_memory"] == "streamed"
    assert hardware["weight_traffic_bytes"] > 0


@pytest.mark.csim
def test_the_simulation_agrees_in_every_layer(made, data, built, monkeypatch):
    monkeypatch.setattr(csim, "_build", lambda folder, build: shutil.copy(built / "testbench", build))
    assert csim.verify_hls(made, {"x": data[:7]}).frames == 7


def test_the_lint_is_clean(made):
    pytest.importorskip("clang", reason="libclang is not installed, so generated C++ is not linted")
    assert [str(finding) for finding in lint_hls(made.path / "hls")] == []


DRIVER = r"""
#define main generated_main
#include "tb/testbench.cpp"
#undef main

static int run(dct::testbench& bench, const dct::weight_file& weights, bool matter) {
    hls::stream<x_axis_beat> x_axis;
    hls::stream<scores_axis_beat> scores_axis;
    int status = -1;
    unsigned build_id = 0;
    dct::send<x_axis_order>(bench.inputs(0), x_axis);
    net(x_axis, scores_axis, 1, build_id, weights.memory(), weights.memory(), weights.bytes, false,
        status, FURTHER);
    const unsigned words = scores_axis.size();
    if (matter) {
        dct::receive<scores_axis_order>(scores_axis, bench.outputs(0), bench, "scores", 0, true);
    } else {
        while (!scores_axis.empty()) scores_axis.read();
    }
    std::printf("%d %u\n", status, words);
    return status;
}

// argv: inputs, outputs, the right container, wrong ones.
int main(int argc, char** argv) {
    char* options[] = {argv[0], (char*)"--inputs", argv[1], (char*)"--outputs", argv[2]};
    dct::testbench bench(5, options, INPUTS, OUTPUTS);
    dct::weight_file weights(argv[3]);
    std::printf("%d\n", load(weights));
    run(bench, weights, true);
    for (int i = 4; i < argc; ++i) {
        std::printf("%d\n", load(dct::weight_file(argv[i])));
        run(bench, weights, true);  // those from before
    }
    // Memory that changes between two frames: every byte of the payloads in turn would take long.
    for (unsigned at = weights.words.size() - 200; at < weights.words.size() - 2; at += 29) {
        weights.words[at] = ~weights.words[at];
        run(bench, weights, false);
        weights.words[at] = ~weights.words[at];
    }
    std::printf("%d\n", load(weights));
    run(bench, weights, true);
    return bench.finish();
}
"""


@pytest.mark.csim
def test_wrong_weights_are_refused_and_changed_memory_is_told(made, data, built, tmp_path, quick_cxxflags):
    graph = made.graph
    levels = graph.by_name["stem"].operator.weights.coding.levels.array
    foreign = changed(graph, "stem", lambda c: {"levels": Constant(np.where(levels == levels.max(), 1, levels))})
    wide = changed(graph, "scores", lambda c: {"levels": Constant(np.where(c.levels.array, 1 << 9, 0))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "SUBSTREAM", SUBSTREAM)
        foreign, wide = container_of(foreign), container_of(wide)
    own = (made.path / "weights.bin").read_bytes()
    # With the usual length of substreams the decoders have too few.
    cases = {0: own, 16: foreign, 18: wide, 17: container_of(graph)}
    hls = made.path / "hls"
    further = (hls / "src/net.h").read_text().count("const ap_uint<32>*") - 2
    source = DRIVER.replace("FURTHER", ", ".join(["weights.memory()"] * further))
    source = source.replace("INPUTS", "128").replace("OUTPUTS", "8")
    said = run_driver(source, hls, built, cases, graph, {"x": data[:1]}, tmp_path, quick_cxxflags)
    lines = [[int(number) for number in line.split()] for line in said.splitlines()[:-1]]
    assert [lines[2 * k][0] for k in range(len(cases))] == list(cases), said
    frames = [line for line in lines if len(line) == 2]
    assert len({words for _, words in frames}) == 1
    statuses = [status for status, _ in frames]
    # A change of memory stays known until weights are loaded again.
    spoiled = statuses[len(cases) : -1]
    assert statuses[: len(cases)] == [0] * len(cases)
    assert 7 in spoiled
    assert spoiled == sorted(spoiled)
    assert statuses[-1] == 0
    assert said.splitlines()[-1] == f"FAIL layer=- frame=1 expected=8 values got={8 * (len(cases) + 1)}"


def test_streaming_without_packed_weights_is_refused(made, data, tmp_path):
    model = made.path.parent / "net.onnx"
    with pytest.raises(ConfigurationError, match="streamed needs packed weights, pack is none"):
        compile_model(model, tmp_path / "p", calibrate=data, weight_memory="streamed", pack="none")
    assert not (tmp_path / "p").exists()


# --------------------------------------------------------------------------------------------- cycles


def test_a_lane_has_equal_shares(made):
    """Twice the decoders take about half the cycles, but for the substreams' beginnings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "SUBSTREAM", SUBSTREAM)
        stored = store_program(made.graph, shared=False)
    operator = made.graph.by_name["scores"].operator
    streams = streams_of(stored.statistics)[operator.weights]
    nonzeros = Nonzeros.of(operator.weights, operator.nonzeros_shape)
    one, two = (lane_steps(nonzeros, streams, lanes) for lanes in (1, 2))
    # Runs of no zeros: a code for each weight, which takes longer than multiplying by those that are not zero.
    assert (streams.longest, streams.substreams) == (0, 8)
    assert one == 144 * 8 + 8 * (LATENCY + 1)
    short = replace(streams, longest=20)
    assert lane_steps(nonzeros, short, 1) == nonzeros.count + 8 + 8 * (LATENCY + 1)
    assert one / 2 <= two < one / 2 * 1.2
    # Long runs of zeros cost codes of their own.
    thin = Nonzeros(np.where(np.arange(144 * 8).reshape(1, 144, 8) % 97, 0, 3))
    slow = replace(streams, coder="run", longest=1, filler=0, substreams=1)
    assert lane_steps(thin, slow, 1) > 144 * 8 / 2
