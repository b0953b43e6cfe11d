"""TFLite files that lie, break or attack: one clear error, nothing large allocated."""

import contextlib
import os
import tracemalloc

import numpy as np
import pytest
import tflite

from tests.frontends.test_tflite import CASES, integers, real, written
from tests.frontends.tflite_files import Network
from toolchain.errors import ModelError, ToolchainError
from toolchain.frontends import read_model
from toolchain.frontends.tflite import load


def network(path):
    """A small network of several kinds of operators."""
    net = Network()
    x, a, b, y = (net.tensor(shape) for shape in ((1, 6, 7, 4), (1, 6, 7, 5), (1, 1, 1, 5), (1, 5)))
    fields = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
    net.operator("CONV_2D", [x, net.constant(real(5, 3, 3, 4)), net.constant(real(5))], [a], "Conv2D", **fields)
    net.operator("MEAN", [a, net.constant(integers(1, 2))], [b], "Reducer", KeepDims=True)
    net.operator("RESHAPE", [b, net.constant(integers(1, 5))], [y], "Reshape", NewShape=[1, 5])
    return net.write(path, [x], [y])


def test_damage(tmp_path):
    """Cut anywhere, or with bytes changed, a file loads or gives one of our errors."""
    path = network(tmp_path / "m.tflite")
    whole, rng, outcomes = path.read_bytes(), np.random.default_rng(11), []
    damaged = [whole[: len(whole) * part // 40] for part in range(40)]
    for count in [1, 2, 4, 16] * 400:
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(0, len(content), count)] = rng.integers(0, 256, count)
        damaged.append(content.tobytes())
    tracemalloc.start()
    for content in damaged:
        path.write_bytes(content)
        try:
            load(path)
            outcomes.append(None)
        except ToolchainError as error:
            outcomes.append(str(error))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20
    assert all(outcomes[:20])
    assert sum(outcome is not None for outcome in outcomes) > 400


def test_each_word_of_the_structure(tmp_path):
    """Every 32-bit word replaced by the numbers that offsets and lengths go wrong with."""
    path = written(tmp_path / "m.tflite", *CASES["dense"])
    whole = path.read_bytes()
    for position in range(0, len(whole) - 3, 4):
        for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0):
            path.write_bytes(whole[:position] + value.to_bytes(4, "little") + whole[position + 4 :])
            with contextlib.suppress(ToolchainError):
                load(path)


def test_not_a_model(tmp_path):
    (tmp_path / "folder.tflite").mkdir()
    (tmp_path / "text.tflite").write_text("hello")
    (tmp_path / "empty.tflite").write_text("")
    (tmp_path / "mark.tflite").write_bytes(b"\0\0\0\0TFL3")
    for name in ("missing.tflite", "folder.tflite", "text.tflite", "empty.tflite", "mark.tflite"):
        with pytest.raises(ModelError):
            load(tmp_path / name)


def changed(network, index, **fields):
    """The network's tensor with other fields."""
    keys = ("name", "shape", "element", "data", "quantization", "signature")
    network.tensors[index] = tuple(fields.get(k, v) for k, v in zip(keys, network.tensors[index], strict=True))


@pytest.mark.parametrize(("fields", "text"), [
    ({"shape": (5, 7)}, "tensor 1 't1': holds 120 bytes, its shape .5, 7. needs 140"),
    ({"shape": (1 << 30, 1 << 30)}, "too large"),
    ({"shape": (5, -6)}, "has the shape"),
    ({"shape": (5, 6, *[1] * 7)}, "has the shape"),
    ({"signature": (5, 9)}, "has the shape"),
    ({"quantization": ([0.5, 0.5], [0], 0)}, "scales or zero points"),
    ({"quantization": ([np.nan], [0], 0)}, "scales or zero points"),
    ({"quantization": ([0.5], [1 << 40], 0)}, "scales or zero points"),
], ids=str)  # fmt: skip
def test_tensors_that_do_not_add_up(fields, text, tmp_path):
    net = Network()
    x, w, y = net.tensor((1, 6)), net.constant(real(5, 6)), net.tensor((1, 5))
    net.operator("FULLY_CONNECTED", [x, w, -1], [y], "FullyConnected")
    changed(net, w, **fields)
    with pytest.raises(ModelError, match=text):
        load(net.write(tmp_path / "m.tflite", [x], [y]))


def test_tensors_that_do_not_exist(tmp_path):
    net = Network()
    x, y = net.tensor((1, 6)), net.tensor((1, 6))
    net.operator("RELU", [99], [y])
    with pytest.raises(ModelError, match="RELU 0: reads or writes tensor 99, there are 2"):
        load(net.write(tmp_path / "m.tflite", [x], [y]))
    net = Network()
    x, y = net.tensor((1, 6)), net.tensor((1, 6))
    net.operator("RELU", [y], [y])
    with pytest.raises(ModelError, match="before it is computed"):
        load(net.write(tmp_path / "m.tflite", [x], [y]))
    net = Network()
    x, y = net.tensor((1, 6)), net.tensor((1, 6))
    net.operator("RELU", [x], [net.tensor((1, 6))])
    with pytest.raises(ModelError, match="is an output that nothing computes"):
        load(net.write(tmp_path / "m.tflite", [x], [y]))


def test_one_buffer_for_very_many_tensors(tmp_path):
    """A small file must not ask for the memory of a large one."""
    net = Network()
    weights = real(1 << 18)
    x, y = net.tensor((1, 6)), net.tensor((1, 6))
    net.operator("RELU", [x], [y])
    for _ in range(1200):
        net.constant(weights)
    net.share_buffers = True
    path = net.write(tmp_path / "m.tflite", [x], [y])
    assert path.stat().st_size < 2 << 20
    with pytest.raises(ModelError, match="elements"):
        load(path)


def test_names_cannot_forge_output(tmp_path):
    net = Network()
    x, y = net.tensor((1, 6)), net.tensor((1, 6), name="a\n\x1b[31mok")
    net.operator("CUMSUM", [x, net.constant(integers(1))], [y], "Cumsum")
    with pytest.raises(ModelError) as error:
        load(net.write(tmp_path / "m.tflite", [x], [y]))
    assert str(error.value).isprintable()


def test_newer_options_are_refused(tmp_path, monkeypatch):
    """A field that the schema got later could change the result."""
    path = written(tmp_path / "m.tflite", *CASES["dense"])
    monkeypatch.setattr(tflite, "FullyConnectedOptionsStart", lambda builder: builder.StartObject(0))
    with pytest.raises(ModelError, match="FULLY_CONNECTED 0: has options that FullyConnectedOptions does not know"):
        load(path)


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.tflite")
    with pytest.raises(ModelError, match="is no file"):
        read_model(tmp_path / "pipe.tflite")
