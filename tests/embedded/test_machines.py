"""A small network through the command line, on every processor that `verify` knows, every layer compared."""

import json
import shutil

import numpy as np
import pytest

from tests.small import Model, run
from toolchain.verification.machines import MACHINES


def network():
    """Convolutions (padded, depthwise, strided), a residual sum, pools, a matrix, softmax."""
    m = Model(seed=11)
    m.input("x", "N", 3, 12, 12)
    a = m.add("Relu", m.add("Conv", "x", m.noise(8, 3, 3, 3), m.noise(8), pads=[1, 1, 1, 1]))
    b = m.add("Conv", a, m.noise(8, 1, 3, 3), pads=[1, 1, 1, 1], group=8)
    c = m.add("MaxPool", m.add("Relu", m.add("Add", a, b)), kernel_shape=[2, 2], strides=[2, 2])
    d = m.add("Relu", m.add("Conv", c, m.noise(16, 8, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]))
    e = m.add("Flatten", m.add("GlobalAveragePool", d))
    m.output(m.add("Softmax", m.add("Gemm", e, m.noise(16, 5), m.noise(5)), axis=1))
    return m


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    network().save(folder / "net.onnx")
    x = np.random.default_rng(5).normal(size=(12, 3, 12, 12)).astype(np.float32)
    np.save(folder / "x.npy", x)
    for pack in ("none", "auto"):
        options = ("--calibrate", folder / "x.npy", "--target", "embedded", "--pack", pack, "-o", folder / pack)
        assert run("compile", folder / "net.onnx", *options) == 0
    return folder


@pytest.mark.parametrize("pack", ["none", "auto"])
@pytest.mark.parametrize("machine", MACHINES)
def test_every_layer_agrees(place, machine, pack, capsys):
    assert (
        run(
            "verify",
            place / pack,
            "--inputs",
            place / "x.npy",
            "--against",
            "embedded",
            "--machine",
            machine,
            "--trace",
        )
        == 0
    )
    assert f"embedded on {machine}: 12 inputs, " in capsys.readouterr().out


def test_a_change_of_the_c_is_found_and_its_layer_named(place, tmp_path, capsys):
    shutil.copytree(place / "none", tmp_path / "p")
    (source,) = (tmp_path / "p/embedded").glob("net.c")
    text = source.read_text()
    assert text.count("dct_divide_32(") == 1
    source.write_text(text.replace("dct_divide_32(", "1 + dct_divide_32("))
    assert run("verify", tmp_path / "p", "--inputs", place / "x.npy", "--against", "embedded") == 1
    message = capsys.readouterr().err
    assert "GlobalAveragePool".lower() in message.lower()
    assert "expected" in message


def test_the_same_program_gives_the_same_bytes(place, tmp_path):
    options = ("--calibrate", place / "x.npy", "--target", "all", "--pack", "none", "-o", tmp_path / "p")
    assert run("compile", place / "net.onnx", *options) == 0
    for path in sorted((tmp_path / "p/embedded").iterdir()):
        assert path.read_bytes() == (place / "none/embedded" / path.name).read_bytes()
    assert (tmp_path / "p/hls/Makefile").is_file()
    assert not (place / "none/hls").exists()
    footprint = json.loads((tmp_path / "p/report.json").read_text())["embedded"]
    assert footprint["arena_bytes"] > 0
    assert footprint["constants"]["weights"] == 8 * 27 + 8 * 9 + 16 * 72 + 80


def test_the_folder_must_be_whole(place, tmp_path, capsys):
    shutil.copytree(place / "none", tmp_path / "p")
    manifest = tmp_path / "p/embedded/manifest.json"
    for content in ("", "{}", '{"trace": [1]}', manifest.read_text().replace('"offset": 0', '"offset": "a"')):
        manifest.write_text(content)
        assert run("verify", tmp_path / "p", "--inputs", place / "x.npy", "--against", "embedded") == 2
        assert "is damaged" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "p/embedded")
    assert run("verify", tmp_path / "p", "--inputs", place / "x.npy", "--against", "embedded") == 2
    assert "--target embedded" in capsys.readouterr().err


def test_a_missing_emulator_is_exit_3_and_its_package_named(place, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert run("verify", place / "none", "--inputs", place / "x.npy", "--against", "embedded") == 3
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "qemu-system-arm" else tool)
    options = ("--against", "embedded", "--machine", "cortex-m4")
    assert run("verify", place / "none", "--inputs", place / "x.npy", *options) == 3
    message = capsys.readouterr().err
    assert "apt-get install" in message
    assert "qemu-system-arm" in message
