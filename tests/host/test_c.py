"""The C driver: warnings are errors for every target, and its example runs over the model of the hardware."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from tests.host.hardware import COMPILERS, CONTROL, DMA, FAULTS, HERE, WINDOW, needs, refused
from toolchain.simulation.simulator import Simulator

pytestmark = pytest.mark.csim
OBJECTS = ("accelerator", "numbers", "design", "linux")


def build_example(made, folder, *options):
    """The example over the model: the port header stands for registers, buffers and the cache."""
    sources = made.project / "host/c"
    strict = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
    for name in OBJECTS:
        port = ('-DDCT_PORT_HEADER="port.h"', f"-I{HERE}", *options)
        subprocess.run(["gcc", *strict, *port, "-c", sources / f"{name}.c", "-o", folder / f"{name}.o"], check=True)
    subprocess.run(["gcc", "-c", HERE / "port.c", "-o", folder / "port.o"], check=True)
    objects = [folder / f"{name}.o" for name in (*OBJECTS, "port")]
    rpath = f"-Wl,-rpath,{made.library.parent}"
    subprocess.run(["g++", *objects, made.library, rpath, "-lm", "-o", folder / "example"], check=True)
    return folder / "example"


@pytest.fixture(scope="module")
def example(ports, tmp_path_factory):
    return build_example(ports, tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def loading(loaded, tmp_path_factory):
    return build_example(loaded, tmp_path_factory.mktemp("example"))


def call(program, made, folder, rows, *options, buffer=1 << 16, fault="none"):
    """Runs the example on the first rows; returns what it said and the paths of its outputs by name."""
    description = made.description
    count = len(description["inputs"]) + len(description["outputs"])
    arguments = [CONTROL, *(DMA + k * WINDOW for k in range(count)), buffer]
    targets = {}
    for one in description["inputs"]:
        path = folder / f"{one['identifier']}.f64"
        made.inputs[one["name"]][:rows].astype("<f8").tofile(path)
        arguments.append(path)
    for one in description["outputs"]:
        targets[one["name"]] = folder / f"{one['identifier']}.out"
        arguments.append(targets[one["name"]])
    argv = [program, "-p", "20000", *options, *map(str, arguments)]
    environment = {"MODEL_FAULT": str(FAULTS[fault])}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=environment)
    return done, targets


@pytest.mark.parametrize(("compiler", "runner"), COMPILERS)
def test_it_compiles_without_warnings_and_starts(ports, compiler, runner, tmp_path):
    argv = ["make", "-s", "-C", ports.project / "host/c", f"CC={compiler}", f"BUILD={tmp_path}", "objects"]
    done = subprocess.run([*argv, f"{tmp_path}/example"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    refused(
        subprocess.run([*runner, tmp_path / "example"], capture_output=True, text=True, check=False),
        "for 2 inputs and 2 outputs",
    )
    no_device = ["/dev/uio77"] * 5 + ["udmabuf77"] + ["x"] * 4
    said = subprocess.run([*runner, tmp_path / "example", *no_device], capture_output=True, text=True, check=False)
    refused(said, "/dev/uio77: cannot be opened")


def test_it_is_c_plus_plus_too_and_uses_no_heap(ports, tmp_path):
    sources = ports.project / "host/c"
    (tmp_path / "main.cpp").write_text('#include "design.h"\nint main() { return ACCELERATOR_DESIGN.build_id == 0; }\n')
    argv = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", f"-I{sources}", "-fsyntax-only"]
    subprocess.run([*argv, tmp_path / "main.cpp"], check=True)
    for name in ("accelerator", "numbers", "design"):
        subprocess.run(["gcc", "-O2", "-c", sources / f"{name}.c", "-o", tmp_path / "x.o"], check=True)
        symbols = subprocess.run(["nm", "-u", tmp_path / "x.o"], capture_output=True, text=True, check=True).stdout
        outside = {line.split()[-1] for line in symbols.splitlines()}
        assert all(one.startswith("accelerator_") for one in outside - {"ldexp", "floor", "__stack_chk_fail"}), outside


@pytest.mark.parametrize("buffer", [1 << 16, 3000, 1500])
@pytest.mark.parametrize("raw", [True, False])
def test_outputs_are_the_simulators(ports, example, tmp_path, raw, buffer):
    done, targets = call(example, ports, tmp_path, 13, *(["-r"] if raw else []), buffer=buffer)
    assert (done.returncode, done.stderr) == (0, "")
    part = {name: data[:13] for name, data in ports.inputs.items()}
    expected = ports.simulator.predict_raw(part) if raw else ports.simulator.predict(part)
    for name, path in targets.items():
        got = np.fromfile(path, dtype="<i8" if raw else "<f8").reshape(expected[name].shape)
        assert np.array_equal(got, expected[name])
    figures = json.loads(done.stdout)
    assert set(figures) == {"build_id", "frames", "seconds", "frames_per_second"}
    assert (figures["build_id"], figures["frames"]) == (ports.description["build_id"], 13)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("never done", "open: the accelerator or a DMA engine hangs"),
        ("early last", "an output has another length than it should have: dma_"),
        ("missing beat", "run: the accelerator or a DMA engine hangs: dma_"),
        ("other build", "open: the build id is that of other hardware"),
        ("no last", "run: a DMA engine reports an error: dma_"),
    ],
)
def test_broken_hardware_is_reported(ports, example, tmp_path, name, text):
    done, targets = call(example, ports, tmp_path, 5, fault=name)
    refused(done, text)
    assert not any(path.exists() for path in targets.values())


def test_wrong_inputs_are_refused(ports, example, tmp_path):
    done, _ = call(example, ports, tmp_path, 13, buffer=300)
    refused(done, "the buffer has 300 bytes")
    strange = type(ports)(ports.project, ports.library, ports.inputs | {"b": ports.inputs["b"][:4]})
    refused(call(example, strange, tmp_path, 13)[0], "has other frames")
    wrong = ports.inputs["a"].copy()
    wrong[4, 0, 0, 0] = np.nan
    strange = type(ports)(ports.project, ports.library, ports.inputs | {"a": wrong})
    refused(call(example, strange, tmp_path, 13)[0], "NaN or infinity in the inputs")
    strange = type(ports)(ports.project, ports.library, ports.inputs | {"a": ports.inputs["a"][:, 0, :5]})
    refused(call(example, strange, tmp_path, 1)[0], "ends inside a frame")
    refused(call(example, ports, tmp_path, 1, "-w", HERE / "port.c")[0], "the weights of this hardware are constants")


@pytest.mark.parametrize("what", ["flush", "invalidate"])
def test_a_forgotten_cache_operation_is_found(ports, tmp_path, what):
    """A test of the test: without it the model's cache holds other bytes than its memory."""
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    text = (HERE / "port.h").read_text()
    name = f"port_{what}(physical, bytes)"
    assert name in text
    (hollow / "port.h").write_text(text.replace(name, "((void)(physical), (void)(bytes))"))
    program = build_example(ports, tmp_path, f"-I{hollow}", "-iquote", str(hollow))
    done, targets = call(program, ports, tmp_path, 5, "-r")
    part = {key: data[:5] for key, data in ports.inputs.items()}
    expected = ports.simulator.predict_raw(part)
    assert done.returncode == 0
    assert not all(np.array_equal(np.fromfile(path, "<i8"), expected[key].ravel()) for key, path in targets.items())


def test_weights_are_loaded(loaded, loading, tmp_path):
    part = {"x": loaded.inputs["x"][:9]}
    refused(call(loading, loaded, tmp_path, 9)[0], "run: no weights have been loaded")
    said, _ = call(loading, loaded, tmp_path, 9, "-w", loaded.strange)
    refused(said, "the hardware refused the weights: weight_status 16")
    for weights, simulator in (
        (loaded.project / "weights.bin", loaded.simulator),
        (loaded.other, Simulator(loaded.other_graph)),
    ):
        done, targets = call(loading, loaded, tmp_path, 9, "-r", "-w", weights)
        assert (done.returncode, done.stderr) == (0, "")
        expected = simulator.predict_raw(part)
        (path,) = targets.values()
        assert np.array_equal(np.fromfile(path, "<i8").reshape(expected.shape), expected)


@needs("arm-linux-gnueabihf-g++", "g++-arm-linux-gnueabihf")
@needs("qemu-arm", "qemu-user")
@pytest.mark.slow
def test_the_arm_program_gives_the_simulators_outputs(ports, tmp_path):
    """The driver's machine code for the processor of a Zynq-7000, in an emulator, the model and all."""
    from tests.host.hardware import build_model

    prefix = "arm-linux-gnueabihf-"
    library = build_model(ports.project, tmp_path, compiler=f"{prefix}g++")
    objects = []
    for source in (*(ports.project / f"host/c/{name}.c" for name in OBJECTS), HERE / "port.c"):
        objects.append(tmp_path / f"{source.stem}.o")
        port = ('-DDCT_PORT_HEADER="port.h"', f"-I{HERE}")
        subprocess.run([f"{prefix}gcc", "-std=gnu99", *port, "-c", source, "-o", objects[-1]], check=True)
    program = tmp_path / "example"
    rpath = f"-Wl,-rpath,{tmp_path}"
    subprocess.run([f"{prefix}g++", *objects, library, rpath, "-lm", "-o", program], check=True)
    emulated = tmp_path / "emulated"
    emulated.write_text(f'#!/bin/sh\nexec {shutil.which("qemu-arm")} -L /usr/{prefix[:-1]} {program} "$@"\n')
    emulated.chmod(0o755)
    done, targets = call(emulated, ports, tmp_path, 3, "-r")
    assert (done.returncode, done.stderr) == (0, "")
    expected = ports.simulator.predict_raw({name: data[:3] for name, data in ports.inputs.items()})
    assert all(np.array_equal(np.fromfile(path, "<i8"), expected[name].ravel()) for name, path in targets.items())
