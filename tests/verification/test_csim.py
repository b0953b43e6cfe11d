"""`verify`: agreement comes with its numbers, every planted mistake is found and named, nothing is regenerated."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.small import Model, dense, listing, rows, run, two_ports
from toolchain.compiler import compile_model
from toolchain.errors import MismatchError, ModelError, ToolError
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape
from toolchain.project import load
from toolchain.simulation import reference
from toolchain.verification.csim import ap_types, verify_hls

pytestmark = [pytest.mark.csim, pytest.mark.usefixtures("quick")]


@pytest.fixture(scope="module")
def data():
    return {"a": rows(9, 2, 6, 6), "b": rows(9, 4, 3, 3, seed=6)}


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("csim")
    compile_model(two_ports(folder / "net.onnx"), folder / "p", calibrate=data)
    np.savez(folder / "x.npz", **data)
    return folder


@pytest.fixture
def project(made, tmp_path):
    shutil.copytree(made / "p", tmp_path / "p")
    return load(tmp_path / "p")


def edit(project, file, pattern, replacement):
    path = project.path / "hls" / file
    text = path.read_text()
    changed, count = re.subn(pattern, replacement, text, count=1)
    assert count == 1, pattern
    assert changed != text
    path.write_text(changed)


def test_two_inputs_and_two_outputs_agree(made, project, data, capsys):
    before = listing(project.path)
    agreement = verify_hls(project, data)
    assert (agreement.rendering, agreement.frames) == ("hls", 9)
    values = [n for n in project.graph.nodes if not isinstance(n.operator, Reshape)]
    assert agreement.layers == len(values)
    sizes = sum(project.graph.types[n.name].size for n in values)
    sizes += sum(project.graph.types[o.value].size for o in project.graph.outputs)
    assert agreement.values == 9 * sizes
    assert listing(project.path) == before  # built elsewhere, nothing written here
    assert run("verify", project.path, "--inputs", made / "x.npz") == 0
    assert f"{agreement.values} integers compared, 0 differ" in capsys.readouterr().out


def expected_at(project, data, layer, index):
    seen = {}
    reference.evaluate(project.graph, {g.name: g.from_model(data[g.name]) for g in project.graph.inputs},
                       lambda name, v: seen.update({name: v}))  # fmt: skip
    return seen[layer][index]


def test_a_changed_weight_is_found_in_its_layer(project, data):
    edit(
        project,
        "src/constants.h",
        r"(conv_matrix_vector_bias\[\d+\] = \{\s*)(-?\d+)",
        lambda m: f"{m[1]}{int(m[2]) + 1}",
    )
    with pytest.raises(MismatchError) as caught:
        verify_hls(project, data)
    error = caught.value
    assert error.layer == "conv"
    assert error.index == (0, 0, 0, 0)
    assert error.expected == expected_at(project, data, "conv", error.index)
    assert error.got == error.expected + 1


def test_a_changed_shift_is_found_in_its_layer(project, data):
    edit(
        project,
        "src/configs.h",
        r"(struct conv_requantize\w*_config [^}]*SHIFT = )(\d+)",
        lambda m: f"{m[1]}{int(m[2]) - 1}",
    )
    with pytest.raises(MismatchError) as caught:
        verify_hls(project, data)
    assert caught.value.layer == "conv/requantize"
    assert caught.value.expected == expected_at(project, data, "conv/requantize", caught.value.index)


def test_a_wrong_stride_is_found(project, data):
    edit(project, "src/configs.h", r"(struct conv_sliding_window_config [^}]*STRIDE_WIDTH = )2", r"\g<1>1")
    with pytest.raises(MismatchError) as caught:
        verify_hls(project, data)
    assert caught.value.layer == "conv"


def test_a_wrong_order_of_the_output_is_found_at_the_output(project, data):
    """All layers are right, and what leaves the design is not: the output is named."""
    edit(
        project,
        "tb/testbench.cpp",
        r"(struct joined_axis_order [^}]*?STRIDE_3 = )(\d+)(;[^}]*?STRIDE_4 = )(\d+)",
        r"\g<1>\g<4>\g<3>\g<2>",
    )
    with pytest.raises(MismatchError) as caught:
        verify_hls(project, data)
    assert "joined" in caught.value.layer or "outputs" in caught.value.layer


def test_a_trace_of_few_frames_still_names_the_layer(project, data, monkeypatch):
    """Where traces would grow too large, only the first frames of a slice are traced."""
    edit(
        project,
        "src/constants.h",
        r"(scores_matrix_vector_bias\[\d+\] = \{\s*)(-?\d+)",
        lambda m: f"{m[1]}{int(m[2]) + 1}",
    )
    monkeypatch.setattr("toolchain.verification.csim.TRACE_BYTES", 1)
    with pytest.raises(MismatchError) as caught:
        verify_hls(project, data)
    assert caught.value.layer in ("scores", "scores/requantize")


@pytest.mark.parametrize("body", ['std::puts("PASS frames=9 values=351"); return 0;'])
def test_a_test_bench_that_lies(project, data, body):
    """Exit code 0 and a friendly word are not believed: the integers have to be there."""
    edit(
        project,
        "tb/testbench.cpp",
        r"int main\(int argc, char\*\* argv\) \{",
        f"int main(int argc, char** argv) {{ {body}",
    )
    with pytest.raises(MismatchError):
        verify_hls(project, data)


def test_code_that_does_not_compile(project, data, capsys):
    edit(project, "src/configs.h", r"namespace", "oops namespace")
    with pytest.raises(ToolError, match="error"):
        verify_hls(project, data)


def test_no_hls_folder(project, data, capsys, made):
    shutil.rmtree(project.path / "hls")
    with pytest.raises(ModelError, match="no hls/"):
        verify_hls(project, data)
    assert run("verify", project.path, "--inputs", made / "x.npz") == 2
    assert run("build", project.path, "--stage", "csim") == 2


def test_the_folder_of_another_program(project, data, tmp_path):
    """Other layers, or the same layers with other weights: a mismatch, exit 1."""
    other = compile_model(dense(tmp_path / "dense.onnx"), tmp_path / "q", calibrate=rows(8, 6))
    kept = project.path / "hls"
    kept.rename(tmp_path / "kept")
    shutil.copytree(other.path / "hls", project.path / "hls")
    with pytest.raises(MismatchError, match=r"expected .*got .*another program"):
        verify_hls(project, data)
    m = Model(seed=99)
    m.input("x", "N", 6)
    m.add("Gemm", "x", m.noise(6, 5), m.noise(5), name="first")
    m.add("Relu", "first", name="relu")
    m.output(m.add("Gemm", "relu", m.noise(5, 3), m.noise(3), name="second"))
    twin = compile_model(m.save(tmp_path / "twin.onnx"), tmp_path / "r", calibrate=rows(8, 6))
    shutil.rmtree(twin.path / "hls")
    shutil.copytree(other.path / "hls", twin.path / "hls")
    with pytest.raises(MismatchError) as caught:
        verify_hls(load(twin.path), {"x": rows(3, 6)})
    assert caught.value.layer in [n.name for n in twin.graph.nodes if not isinstance(n.operator, Quantize)]


def test_names_outside_ascii_come_back_whole(tmp_path):
    """The message of a mismatch names the layer as the model does, long and odd as its name may be."""
    name = "é" * 150 + "名前\n frame=0 index=0 expected=1 got=2"
    m = Model()
    m.input("x", 1, 4)
    m.output(m.add("Gemm", "x", m.noise(4, 3), m.noise(3), name=name, out=name))
    project = compile_model(m.save(tmp_path / "net.onnx"), tmp_path / "p", calibrate=rows(8, 4))
    edit(project, "src/constants.h", r"(matrix_vector_bias\[\d+\] = \{\s*)(-?\d+)", lambda m: f"{m[1]}{int(m[2]) + 64}")
    with pytest.raises(MismatchError) as caught:
        verify_hls(load(project.path), {"x": rows(3, 4)})
    assert caught.value.layer == name
    assert "\n" not in str(caught.value)


def test_the_projects_own_make_target(project):
    """`make csim` in hls/ passes as generated; with one changed expected integer it fails and says where."""
    argv = ["make", "-s", "csim", f"AP_TYPES={ap_types()}", "CXXFLAGS=-O0"]
    folder = project.path / "hls"
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows_of_outputs = (folder / "tb_data/outputs.dat").read_text().split()
    assert len((folder / "tb_data/outputs.dat").read_text().splitlines()) == 8
    rows_of_outputs[-1] = str(int(rows_of_outputs[-1]) + 1)
    (folder / "tb_data/outputs.dat").write_text(" ".join(rows_of_outputs))
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"expected={rows_of_outputs[-1]} got={int(rows_of_outputs[-1]) - 1}" in done.stdout
