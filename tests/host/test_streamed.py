"""Weights that the accelerator reads from memory for every frame: all hosts keep them there."""

import numpy as np
import pytest

from tests.host.test_c import build_example, call
from tests.host.test_python import driver, refused, run_host
from tests.host.test_xrt import build, coreutil, files, on_card
from tests.host.test_xrt import call as call_xrt

__all__ = ["coreutil", "driver", "on_card"]
COUNT = 9


def test_there_are_several_decoders(streamed):
    registers = streamed.description["registers"]
    assert streamed.description["streamed"]
    assert [name for name in registers if name.endswith("_1")] == ["weight_codes_1", "weight_raw_1"]


def test_python(streamed, tmp_path, save):
    part, target = {"x": streamed.inputs["x"][:COUNT]}, tmp_path / "outputs.npy"
    options = ("--inputs", save(part), "--outputs", target, "--raw", "--image", streamed.image(tmp_path / "image"))
    refused(run_host(streamed.project, *options), "has no weights yet")
    done = run_host(streamed.project, *options, "--weights", streamed.project / "weights.bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert np.array_equal(np.load(target), streamed.simulator.predict_raw(part))


def test_weights_that_were_refused_leave_those_from_before(driver, streamed, tmp_path):
    image, x = streamed.image(tmp_path / "image"), streamed.inputs["x"][:3]
    with driver.open_accelerator(image, streamed.project / "host/accelerator.json", timeout=2) as accelerator:
        accelerator.load_weights(streamed.project / "weights.bin")
        with pytest.raises(driver.AcceleratorError, match="status 16"):
            accelerator.load_weights(streamed.strange)
        for _ in range(2):
            assert np.array_equal(accelerator.predict_raw(x), streamed.simulator.predict_raw({"x": x}))
        accelerator.load_weights(streamed.project / "weights.bin")  # another buffer
        assert np.array_equal(accelerator.predict_raw(x), streamed.simulator.predict_raw({"x": x}))
        memory = accelerator.backend._weights
        memory[len(memory) // 2 :] ^= 0xFF
        memory.flush()
        with pytest.raises(driver.AcceleratorError, match="not those that were loaded"):
            accelerator.predict_raw(x)


def test_c(streamed, tmp_path):
    program, part = build_example(streamed, tmp_path), {"x": streamed.inputs["x"][:COUNT]}
    refused(call(program, streamed, tmp_path, COUNT)[0], "run: no weights have been loaded")
    done, targets = call(program, streamed, tmp_path, COUNT, "-r", "-w", streamed.project / "weights.bin")
    assert (done.returncode, done.stderr) == (0, "")
    expected = streamed.simulator.predict_raw(part)
    (path,) = targets.values()
    assert np.array_equal(np.fromfile(path, "<i8").reshape(expected.shape), expected)


def test_xrt(streamed, tmp_path):
    program = build(streamed, tmp_path / "xrt", stand_in=True)
    named, targets = files(streamed, tmp_path, COUNT)
    (target,) = targets.values()
    image = streamed.image(tmp_path / "image")
    weights = streamed.project / "weights.bin"
    done = call_xrt(program, "--image", image, *named, "--raw", "--weights", weights, "--batch", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert np.array_equal(np.load(target), streamed.simulator.predict_raw({"x": streamed.inputs["x"][:COUNT]}))


def test_pyxrt(streamed, on_card, tmp_path, save):
    target, part = tmp_path / "outputs.npy", {"x": streamed.inputs["x"][:COUNT]}
    options = ("--inputs", save(part), "--outputs", target, "--raw", "--batch", 4)
    weights = streamed.project / "weights.bin"
    done = on_card(streamed, streamed.image(tmp_path / "image"), *options, "--weights", weights)
    assert (done.returncode, done.stderr) == (0, "")
    assert np.array_equal(np.load(target), streamed.simulator.predict_raw(part))
