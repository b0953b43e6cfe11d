"""Hardware whose weights are loaded: the C simulation against the simulator, other weights, and what is refused."""

import dataclasses
import json
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest

from tests.containers import build_bench, changed, container_of, run_driver
from tests.small import Model, dense, listing, rows, run
from toolchain.codegen.hls import LOADED_ONLY, decimal_rows
from toolchain.codegen.loaded import hardware_graph, is_loaded
from toolchain.compiler import compile_model, raw_frames
from toolchain.errors import ConfigurationError, ModelError
from toolchain.exchange import other_weights
from toolchain.hardware.terminals import lane_bits
from toolchain.ir import Constant
from toolchain.ops.reshape import Reshape
from toolchain.packing.container import unpack
from toolchain.project import load
from toolchain.simulation.simulator import Simulator
from toolchain.verification import csim
from toolchain.verification.lint import lint_hls

SETTINGS = {
    "model": {"weight_memory": "loaded"},
    "layers": {"stem": {"pack": "dct"}, "grouped": {"pack": "spatial"}, "scores": {"pack": "dct"}},
}
"""A layer of each kind: frequency over taps, depthwise, grouped and spatial, a matrix with a geometry in frequency."""


class Drawn:
    """Normal numbers of one seed, and a share of those of another: what training does to weights."""

    def __init__(self, share: float) -> None:
        self.share, self.base, self.other = share, np.random.default_rng(3), np.random.default_rng(77)

    def normal(self, size):
        return self.base.normal(size=size) + self.share * self.other.normal(size=size)


def network(path, share: float = 0.0, outputs: int = 10, factor: float = 0.5):
    m = Model()
    m.rng = Drawn(share)
    m.input("x", 1, 1, 10, 10)
    x = m.add("Relu", m.add("Conv", "x", m.noise(6, 1, 5, 5), m.noise(6), name="stem", pads=[2, 2, 2, 2]), name="a")
    x = m.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = m.add("Sigmoid", m.add("Conv", x, m.noise(6, 1, 3, 3), m.noise(6), name="depth", group=6), name="b")
    sparse = m.rng.normal(size=(8, 3, 2, 2)) * (np.arange(96).reshape(8, 3, 2, 2) % 3 == 0)
    x = m.add("Relu", m.add("Conv", x, m.constant(sparse), m.noise(8), name="grouped", group=2), name="c")
    x = m.add("Mul", x, m.constant(np.random.default_rng(9).uniform(factor, 1, (1, 8, 2, 2))), name="scaled")
    x = m.add("Gemm", m.add("Flatten", x, name="flat"), m.noise(32, outputs), m.noise(outputs), name="scores")
    m.output(x)
    return m.save(path)


@pytest.fixture(scope="module")
def data():
    return rows(96, 1, 10, 10)


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("loaded")
    np.save(folder / "x.npy", data)
    network(folder / "net.onnx")
    network(folder / "trained.onnx", share=0.2)
    compile_model(folder / "net.onnx", folder / "p", calibrate=data, config=SETTINGS)
    network(folder / "scaled.onnx", factor=-2)
    compile_model(folder / "net.onnx", folder / "spatial", calibrate=data, weight_memory="loaded", execute="spatial")
    return folder


@pytest.fixture(scope="module")
def project(made):
    return load(made / "p")


@pytest.fixture(scope="module")
def trained(made, data):
    return other_weights(made / "p", made / "trained.onnx", calibrate=data)


@pytest.fixture(scope="module")
def built(made, tmp_path_factory, quick_cxxflags):
    """The test bench and the objects it was linked from."""
    return build_bench(made / "p/hls", tmp_path_factory.mktemp("build"), quick_cxxflags)


def simulate(program, folder, container: bytes, graph, arrays, built):
    """Runs the compiled test bench of the project on a container and the outputs of a program."""
    inputs, outputs = raw_frames(graph, arrays)
    files = {name: folder / name for name in ("weights.bin", "inputs.dat", "outputs.dat")}
    files["weights.bin"].write_bytes(container)
    files["inputs.dat"].write_text(decimal_rows(list(inputs.values())))
    files["outputs.dat"].write_text(decimal_rows(list(outputs.values())))
    options = [f"--{name.partition('.')[0]}={path}" for name, path in files.items()]
    argv = [part for option in options for part in option.split("=", 1)]
    return subprocess.run([built / program, *argv], capture_output=True, text=True, check=False)


# --------------------------------------------------------------------------------------------- the hardware


def test_layers_are_coded_where_they_are_executed(project):
    found = {layer["layer"]: layer for layer in project.report["layers"] if "capacity" in layer}
    assert {name: layer["execution"] for name, layer in found.items()} == {
        "stem": "frequency",
        "depth": "spatial",
        "grouped": "spatial",
        "scores": "frequency",
    }
    for layer in found.values():
        assert layer["execution"] == layer["coding"]
        assert layer["engine"]["unit"] == "sparse"
        assert layer["capacity"]["weight_bits"] == 8
        assert layer["capacity"]["nonzeros"] >= layer["engine"]["nonzeros"]
    assert project.report["hardware"]["weight_memory"] == "loaded"
    assert (project.path / "hls/tb_data/weights.bin").read_bytes() == (project.path / "weights.bin").read_bytes()


@pytest.mark.csim
def test_the_simulation_agrees_in_every_layer(project, data, built, monkeypatch):
    monkeypatch.setattr(csim, "_build", lambda folder, build: shutil.copy(built / "testbench", build))
    agreement = csim.verify_hls(project, {"x": data[:6]})
    assert agreement.frames == 6
    assert agreement.layers == sum(not isinstance(node.operator, Reshape) for node in project.graph.nodes)


@pytest.mark.csim
def test_retrained_weights_need_no_other_hardware(project, trained, data, built, tmp_path):
    graph = trained.graph
    assert container_of(graph) == trained.data
    done = simulate("testbench", tmp_path, trained.data, graph, {"x": data[:6]}, built)
    assert done.returncode == 0, done.stdout
    assert done.stdout == "PASS frames=6 values=60\n"
    # The weights do matter: with the old outputs the same run fails.
    assert simulate("testbench", tmp_path, trained.data, project.graph, {"x": data[:6]}, built).returncode == 1


def test_retrained_weights_are_near_the_retrained_network(project, trained):
    assert trained.errors.keys() == {"scores"}
    assert trained.errors["scores"] < 1.5 * project.report["compression"]["output_error"]


DRIVER = r"""
#define main generated_main
#include "tb/testbench.cpp"
#undef main

static bool works(dct::testbench& bench) {
    hls::stream<x_axis_beat> x_axis;
    hls::stream<scores_axis_beat> scores_axis;
    int status = -1;
    unsigned build_id = 0;
    dct::send<x_axis_order>(bench.inputs(0), x_axis);
    net(x_axis, scores_axis, 1, build_id, nullptr, nullptr, 0, false, status);
    if (status) return false;
    dct::receive<scores_axis_order>(scores_axis, bench.outputs(0), bench, "scores", 0, true);
    return true;
}

// argv: inputs, outputs, the right container, wrong ones.
int main(int argc, char** argv) {
    char* options[] = {argv[0], (char*)"--inputs", argv[1], (char*)"--outputs", argv[2]};
    dct::testbench bench(5, options, 100, 10);
    if (works(bench)) return 3;
    for (int i = 3; i < argc; ++i) {
        std::printf("%d\n", load(dct::weight_file(argv[i])));
        if (!works(bench)) return 4;
    }
    return bench.finish();
}
"""


def spoiled(data: bytes, at: int, value: int) -> bytes:
    """One byte changed, and the checksum made right."""
    body = bytearray(data[:-4])
    body[at] ^= value
    return bytes(body) + struct.pack("<I", zlib.crc32(body))


def wrong_payload(data: bytes, start: int) -> bytes:
    """A container whose checksum is right and whose codes are not."""
    for at in range(len(data) - 5, start, -1):
        found = spoiled(data, at, 0x81)
        try:
            unpack(found)
        except ModelError as error:
            if "checksum" not in str(error):
                return found
    raise AssertionError("every change is another container")


@pytest.mark.csim
def test_wrong_containers_are_refused_and_change_nothing(project, made, data, built, tmp_path, quick_cxxflags):
    own, graph = (project.path / "weights.bin").read_bytes(), project.graph
    other = compile_model(
        network(tmp_path / "small.onnx", outputs=8), tmp_path / "small", calibrate=data, weight_memory="loaded"
    )
    full = changed(graph, "grouped", lambda c: {"levels": Constant(np.ones_like(c.levels.array))})
    few = np.zeros_like(next(n for n in graph.nodes if n.name == "grouped").operator.weights.coding.levels.array)
    few[0, 0, 0] = 128
    wide = changed(graph, "grouped", lambda c: {"levels": Constant(few)})
    shifted = changed(graph, "stem", lambda c: {"shifts": tuple(s + 1 for s in c.shifts)})
    cases = {
        0: own,
        1: b"DCTX" + own[4:],
        2: spoiled(own, 4, 1),
        3: own[:-1],
        4: own[:100] + bytes([own[100] ^ 1]) + own[101:],
        7: wrong_payload(own, len(own) // 2),
        16: (other.path / "weights.bin").read_bytes(),
        116: container_of(shifted),
        17: container_of(full),
        18: container_of(wide),
    }
    said = run_driver(DRIVER, made / "p/hls", built, cases, graph, {"x": data[:1]}, tmp_path, quick_cxxflags)
    *codes, verdict = said.split("\n")[: len(cases) + 1]
    assert [int(code) for code in codes] == [code % 100 for code in cases], said
    # Ten frames were compared where the file has one: the count is all that differs.
    assert verdict == f"FAIL layer=- frame=1 expected=10 values got={10 * len(cases)}"


def test_the_lint_is_clean(made):
    pytest.importorskip("clang", reason="libclang is not installed, so generated C++ is not linted")
    assert [str(finding) for finding in lint_hls(made / "p/hls")] == []


def test_sums_have_headroom(project):
    types, wide = project.graph.types, hardware_graph(project.graph).types
    loaded = [node.name for node in project.graph.nodes if is_loaded(node)]
    assert len(loaded) == 4
    for name in (node.name for node in project.graph.nodes):
        type = types[name]
        assert wide[name].low <= type.low
        assert wide[name].high >= type.high
        if name in loaded:
            is_free = not project.graph.is_output(name) or lane_bits(type.width + 1) == lane_bits(type.width)
            assert wide[name].width == type.width + is_free
            assert wide[name].low == -(1 << (wide[name].width - 1))


# --------------------------------------------------------------------------------------------- constants


def test_constant_weights_leave_no_trace(tmp_path):
    given = {"calibrate": rows(16, 6)}
    dense(tmp_path / "net.onnx")
    compile_model(tmp_path / "net.onnx", tmp_path / "a", **given)
    compile_model(tmp_path / "net.onnx", tmp_path / "b", weight_memory="rom", **given)
    files = listing(tmp_path / "a")
    assert files == listing(tmp_path / "b")
    assert not {path.rsplit("/", 1)[-1] for path in files} & {*LOADED_ONLY}
    for path in ("hls/src/net.cpp", "hls/src/net.h", "hls/tb/testbench.cpp", "hls/Makefile", "hls/run_hls.tcl"):
        assert b"weight_" not in files[path]
        assert b"--weights" not in files[path]
    assert b"weight_memory" not in files["report.json"]
    assert run("weights", tmp_path / "a", "--from", tmp_path / "b", "-o", tmp_path / "x.bin") == 2


def test_two_compilations_give_the_same_bytes(tmp_path):
    given = {"calibrate": rows(16, 6), "weight_memory": "loaded"}
    dense(tmp_path / "net.onnx")
    compile_model(tmp_path / "net.onnx", tmp_path / "a", **given)
    compile_model(tmp_path / "net.onnx", tmp_path / "b", **given)
    assert listing(tmp_path / "a") == listing(tmp_path / "b")


# --------------------------------------------------------------------------------------------- the command


def weights(made, other, tmp_path, *options):
    return run("weights", made / "p", "--from", other, "-o", tmp_path / "w.bin", *options)


def test_the_command_writes_a_container(made, trained, tmp_path, capsys):
    assert weights(made, made / "trained.onnx", tmp_path, "--calibrate", made / "x.npy") == 0
    assert (tmp_path / "w.bin").read_bytes() == trained.data
    assert f"{len(trained.data)} bytes" in capsys.readouterr().out


@pytest.mark.csim
def test_the_new_weights_make_a_project(made, data, trained, built, tmp_path, monkeypatch):
    monkeypatch.setattr(csim, "_build", lambda folder, build: shutil.copy(built / "testbench", build))
    options = ("--calibrate", made / "x.npy", "--project", tmp_path / "new")
    assert weights(made, made / "trained.onnx", tmp_path, *options) == 0
    new = load(tmp_path / "new")
    assert np.array_equal(new.simulator().predict(data[:4]), Simulator(trained.graph).predict(data[:4]))
    assert csim.verify_hls(new, {"x": data[:3]}).frames == 3
    assert listing(new.path / "hls/src") == listing(made / "p/hls/src")
    assert weights(made, made / "trained.onnx", tmp_path, *options) == 2


def test_a_project_gives_its_own_weights_back(made, tmp_path):
    assert weights(made, made / "p", tmp_path) == 0
    assert (tmp_path / "w.bin").read_bytes() == (made / "p/weights.bin").read_bytes()


def test_a_model_needs_calibration(made, tmp_path, capsys):
    assert weights(made, made / "trained.onnx", tmp_path) == 2
    assert "--calibrate" in capsys.readouterr().err


def test_another_network_is_refused(made, tmp_path, capsys):
    network(tmp_path / "small.onnx", outputs=8)
    assert weights(made, tmp_path / "small.onnx", tmp_path, "--calibrate", made / "x.npy") == 2
    assert "another network" in capsys.readouterr().err
    assert not (tmp_path / "w.bin").exists()


def test_constants_that_are_not_loaded_have_to_stay(made, tmp_path, capsys):
    assert weights(made, made / "scaled.onnx", tmp_path, "--calibrate", made / "x.npy") == 2
    assert "'scaled': has constants that are part of the hardware" in capsys.readouterr().err


def test_other_codings_are_refused(made, tmp_path, capsys):
    assert weights(made, made / "spatial", tmp_path) == 2
    said = capsys.readouterr().err
    assert "the hardware has" in said
    assert "--calibrate" in said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: {"levels": Constant(np.ones_like(c.levels.array))}, "nonzeros, the hardware has room for"),
        (lambda c: {"levels": Constant(np.sign(c.levels.array) * 300)}, "levels from -300 to 300, the hardware has 8"),
        (lambda c: {"shifts": tuple(s + 1 for s in c.shifts)}, "the shifts"),
        (lambda c: {"rounded": 1}, "rounded bits 1"),
    ],
)
def test_weights_that_do_not_fit_name_the_layer(made, project, change, says, monkeypatch):
    graph = changed(project.graph, "grouped", change)
    real_load = load
    monkeypatch.setattr(
        "toolchain.exchange.load",
        lambda path: dataclasses.replace(project, graph=graph) if path.name == "other" else real_load(path),
    )
    monkeypatch.setattr("toolchain.exchange.is_project", lambda path: True)
    (made / "other").mkdir(exist_ok=True)
    with pytest.raises(ConfigurationError, match="layer 'grouped'") as caught:
        other_weights(made / "p", made / "other")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pack": "none"}, "pack is none"),
        ({"pack": "dct", "execute": "spatial"}, "execute spatial"),
        ({"config": {"layers": {"stem": {"weight": "fixed<8,1>"}}}}, "'weight' cannot be forced"),
        ({"config": {"layers": {"scores": {"pe": 2}}}}, "'pe' cannot be forced"),
    ],
)
def test_what_loaded_weights_cannot_have(made, data, tmp_path, options, says):
    with pytest.raises(ConfigurationError, match=says):
        compile_model(made / "net.onnx", tmp_path / "p", calibrate=data, weight_memory="loaded", **options)
    assert not (tmp_path / "p").exists()


def test_spatial_execution_codes_spatially(made):
    report = json.loads((made / "spatial/report.json").read_text())
    assert {layer["coding"] for layer in report["layers"]} == {"spatial"}
