"""The Python driver on PYNQ: run.py as on a board, with stand-ins of `pynq` over the model of the hardware."""

import json
import shutil

import numpy as np
import pytest

from tests.host.hardware import CONTROL, fault, open_model, refused, run_host
from toolchain.simulation.simulator import Simulator

pytestmark = pytest.mark.csim


@pytest.mark.parametrize("options", [(), ("--batch", 5), ("--batch", 5, "--repeat", 2)])
@pytest.mark.parametrize("raw", [True, False])
def test_outputs_are_the_simulators(ports, tmp_path, save, options, raw):
    given, target = save({name: data[:13] for name, data in ports.inputs.items()}), tmp_path / "outputs.npz"
    image = ports.image(tmp_path / "image")
    done = run_host(
        ports.project, "--image", image, "--inputs", given, "--outputs", target, *options, *(["--raw"] if raw else [])
    )
    assert (done.returncode, done.stderr) == (0, "")
    part = {name: data[:13] for name, data in ports.inputs.items()}
    expected = ports.simulator.predict_raw(part) if raw else ports.simulator.predict(part)
    with np.load(target) as got:
        assert set(got.files) == set(expected)
        for name, values in expected.items():
            assert got[name].dtype == values.dtype
            assert np.array_equal(got[name], values)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {"build_id", "frames", "seconds", "frames_per_second"}
    assert figures["build_id"] == ports.description["build_id"]
    assert figures["frames"] == (26 if "--repeat" in options else 13)
    assert figures["frames_per_second"] == pytest.approx(figures["frames"] / figures["seconds"])


def test_integers_are_raw(ports, tmp_path, save):
    rng = np.random.default_rng(4)
    inputs = {}
    for one in ports.description["inputs"]:
        low, high = one["range"]
        inputs[one["name"]] = rng.integers(low, high + 1, (3, *one["shape"]), dtype=np.int16)
    target = tmp_path / "outputs.npz"
    image = ports.image(tmp_path / "image")
    done = run_host(ports.project, "--image", image, "--inputs", save(inputs), "--outputs", target, "--raw")
    assert done.returncode == 0
    expected = ports.simulator.predict_raw(inputs)
    with np.load(target) as got:
        assert all(np.array_equal(got[name], values) for name, values in expected.items())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("never done", "the accelerator did not finish within"),
        ("early last", "received"),
        ("missing beat", "hangs, no data came within"),
        ("other build", "has the build id 0x"),
        ("no last", "stopped with a DMA internal error"),
    ],
)
def test_broken_hardware_is_reported(ports, tmp_path, save, name, text):
    image = fault(ports.image(tmp_path / "image"), name)
    target = tmp_path / "outputs.npz"
    options = ("--inputs", save(ports.inputs), "--outputs", target, "--timeout", "0.3")
    done = run_host(ports.project, "--image", image, *options)
    refused(done, text)
    if name not in ("never done", "other build"):  # found before there is a stream
        assert "dma_" in done.stderr
    assert not list(tmp_path.glob("outputs*"))


def test_an_image_of_another_build_is_refused(ports, tmp_path, save):
    host = tmp_path / "project/host"
    shutil.copytree(ports.project / "host", host)
    description = ports.description | {"build_id": ports.description["build_id"] ^ 4}
    (host / "accelerator.json").write_text(json.dumps(description))
    options = ("--inputs", save(ports.inputs), "--outputs", tmp_path / "outputs.npz")
    done = run_host(tmp_path / "project", "--image", ports.image(tmp_path / "image"), *options)
    refused(done, f"the hardware has the build id {ports.description['build_id']:#010x}")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x: {**x, "a": np.where(x["a"] > 1, np.nan, x["a"])}, "input 'a': holds NaN or infinity at ["),
        (lambda x: {**x, "b": x["b"][:, :3]}, "input 'b': has the shape"),
        (lambda x: {**x, "b": x["b"][:3]}, "the inputs have [3, 32] rows"),
        (lambda x: {"a": x["a"], "c": x["b"]}, "lacks the input 'b'"),
        (lambda x: {**x, "a": np.full(x["a"].shape, 999)}, "input 'a': the integer 999 does not fit"),
        (lambda x: {**x, "a": x["a"].astype(complex)}, "numbers are needed"),
        (lambda x: {name: data[:0] for name, data in x.items()}, "has no rows"),
    ],
)
def test_wrong_inputs_are_refused(ports, tmp_path, save, change, text):
    given, target = save(change(ports.inputs)), tmp_path / "outputs.npz"
    done = run_host(ports.project, "--image", ports.image(tmp_path / "image"), "--inputs", given, "--outputs", target)
    refused(done, text)
    assert not list(tmp_path.glob("outputs*"))


def test_wrong_options_are_refused(ports, tmp_path, save):
    image, given, target = ports.image(tmp_path / "image"), save(ports.inputs), tmp_path / "outputs.npz"
    options = ("--inputs", given, "--outputs", target)
    refused(run_host(ports.project, *options), "--image")
    refused(run_host(ports.project, "--image", tmp_path / "none.bit", *options), "none.bit: there is no such file")
    refused(run_host(ports.project, "--image", image, *options, "--repeat", 0), "--repeat 0")
    refused(run_host(ports.project, "--image", image, *options, "--weights", given), "are constants")
    refused(run_host(ports.project, "--image", image, "--inputs", image, "--outputs", target), "is no array file")
    single = tmp_path / "outputs.npy"
    refused(run_host(ports.project, "--image", image, "--inputs", given, "--outputs", single), "Write an .npz")
    gone = tmp_path / "gone/outputs.npz"
    refused(run_host(ports.project, "--image", image, "--inputs", given, "--outputs", gone), "cannot be written")
    refused(run_host(ports.project, "--image", image, *options, PYTHONPATH=""), "the package pynq is not installed")


@pytest.mark.parametrize("suffix", [".dtbo", ".xsa", ".xclbin"])
def test_what_pynq_would_take_beside_the_image_is_refused(ports, tmp_path, save, suffix):
    """Bitstream.__init__ of PYNQ applies a device tree, BitstreamHandler.get_parser prefers an XSA or xclbin."""
    image = ports.image(tmp_path / "image")
    image.with_suffix(suffix).write_bytes(b"")
    options = ("--inputs", save(ports.inputs), "--outputs", tmp_path / "outputs.npz")
    refused(run_host(ports.project, "--image", image, *options), f"PYNQ would take {image.stem}{suffix} beside it too")


def test_an_overlay_that_lacks_a_part_is_refused(ports, tmp_path, save):
    options = ("--inputs", save(ports.inputs), "--outputs", tmp_path / "outputs.npz")
    for number, name in enumerate(one["dma"] for one in ports.description["inputs"] + ports.description["outputs"]):
        image = ports.image(tmp_path / f"image{number}")
        content = json.loads(image.read_text())
        del content["engines"][name]
        image.write_text(json.dumps(content))
        refused(run_host(ports.project, "--image", image, *options), f"the overlay has no {name}. Program the board")


def test_damaged_descriptions_are_refused(ports, tmp_path, save):
    host = tmp_path / "project/host"
    shutil.copytree(ports.project / "host", host)
    options = ("--inputs", save(ports.inputs), "--outputs", tmp_path / "outputs.npz")
    image = ports.image(tmp_path / "image")
    for text, reason in (
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps(ports.description | {"version": 2}), "this program reads"),
        (json.dumps(ports.description | {"inputs": [{}]}), "is damaged"),
        (json.dumps(ports.description | {"flow": "ip"}), "has no processor that runs Python"),
    ):
        (host / "accelerator.json").write_text(text)
        refused(run_host(tmp_path / "project", "--image", image, *options), reason)


# ------------------------------------------------------------------------------------------ weights


def test_weights_are_loaded(loaded, tmp_path, save):
    given, target = save({"x": loaded.inputs["x"][:9]}), tmp_path / "outputs.npy"
    options = ("--inputs", given, "--outputs", target, "--raw")
    results = []
    for weights in (loaded.project / "weights.bin", loaded.other):
        done = run_host(loaded.project, "--image", loaded.image(tmp_path / "image"), *options, "--weights", weights)
        assert (done.returncode, done.stderr) == (0, "")
        results.append(np.load(target))
    inputs = {"x": loaded.inputs["x"][:9]}
    assert np.array_equal(results[0], loaded.simulator.predict_raw(inputs))
    assert np.array_equal(results[1], Simulator(loaded.other_graph).predict_raw(inputs))
    assert not np.array_equal(*results)


def test_weights_that_do_not_fit_are_refused(loaded, tmp_path, save):
    target = tmp_path / "outputs.npy"
    options = ("--inputs", save(loaded.inputs), "--outputs", target)
    image = loaded.image(tmp_path / "image")
    refused(run_host(loaded.project, "--image", image, *options), "has no weights yet")
    done = run_host(loaded.project, "--image", image, *options, "--weights", loaded.strange)
    refused(done, "status 16): it belongs to another network")
    damaged = bytearray(loaded.other.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    (tmp_path / "damaged.bin").write_bytes(damaged)
    done = run_host(loaded.project, "--image", image, *options, "--weights", tmp_path / "damaged.bin")
    refused(done, "status 4): its checksum is wrong")
    for cut in (0, 1, len(damaged) - 1):
        (tmp_path / "cut.bin").write_bytes(loaded.other.read_bytes()[:cut])
        refused(run_host(loaded.project, "--image", image, *options, "--weights", tmp_path / "cut.bin"), "weight")
    assert not target.exists()


# ------------------------------------------------------------------------------ inside one process


@pytest.fixture
def driver(ports, monkeypatch, tmp_path):
    """The driver's module, from the project, with the stand-in of pynq."""
    import importlib.util
    import sys

    from tests.host.hardware import HERE

    monkeypatch.syspath_prepend(str(HERE / "standin"))
    monkeypatch.syspath_prepend(str(ports.project / "host"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.find_spec("dct_accelerator")
    for name in ("dct_accelerator", "dct_pynq", "pynq"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dct_accelerator", module)
    spec.loader.exec_module(module)
    yield module
    for name in ("dct_pynq", "pynq"):
        sys.modules.pop(name, None)


def test_the_host_breaks_no_rule_of_the_hardware(driver, ports, tmp_path):
    image = ports.image(tmp_path / "image")
    with driver.open_accelerator(image, batch=4) as accelerator:
        for rows in (1, 9, 4, 2):
            part = {name: data[:rows] for name, data in ports.inputs.items()}
            got = accelerator.predict_raw(part)
            expected = ports.simulator.predict_raw(part)
            assert all(np.array_equal(got[name], values) for name, values in expected.items())
            assert accelerator.frames == rows
    assert open_model(image.with_suffix(".so")).model_problem() == b""


def test_after_a_failure_nothing_runs_any_more(driver, ports, tmp_path):
    image = fault(ports.image(tmp_path / "image"), "missing beat")
    with driver.open_accelerator(image, timeout=0.2) as accelerator:
        with pytest.raises(driver.AcceleratorError, match="hangs"):
            accelerator.predict(ports.inputs)
        model = open_model(image.with_suffix(".so"))
        terminals = ports.description["inputs"] + ports.description["outputs"]
        for k, one in enumerate(terminals):
            base = 0x40400000 + 0x10000 * k + (0x30 if one in ports.description["outputs"] else 0)
            assert model.model_read32(base + 4) & 1  # halted
        with pytest.raises(driver.AcceleratorError, match="an earlier call failed"):
            accelerator.predict(ports.inputs)


def test_a_load_that_was_interrupted_does_no_harm(driver, loaded, tmp_path):
    image = loaded.image(tmp_path / "image")
    model = open_model(image.with_suffix(".so"))
    model.model_write32(CONTROL + loaded.description["registers"]["load"]["offset"], 1)
    with driver.open_accelerator(image, loaded.project / "host/accelerator.json", timeout=0.3) as accelerator:
        accelerator.load_weights(loaded.other)
        got = accelerator.predict_raw(loaded.inputs["x"][:2])
    assert np.array_equal(got, Simulator(loaded.other_graph).predict_raw({"x": loaded.inputs["x"][:2]}))
    assert model.model_problem() == b""


def test_a_batch_fits_the_length_registers(driver, ports):
    class Silent:
        def build_id(self):
            return ports.description["build_id"]

    description = driver.Description(ports.project / "host/accelerator.json")
    accelerator = driver.Accelerator(description, Silent(), batch=1 << 40)
    largest = max(one.frame_bytes for one in description.terminals)
    assert accelerator.batch * largest < 1 << 26 <= (accelerator.batch + 1) * largest
    description.inputs[0].size = 1 << 27
    with pytest.raises(driver.AcceleratorError, match="a transfer at most 67108863"):
        driver.Accelerator(description, Silent())
