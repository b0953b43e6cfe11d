"""The hosts for XRT: C++ against Debian's real libxrt-dev, and both C++ and Python over the model of the hardware."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.host.hardware import FAULTS, HERE, XRT_HEADERS, fault, needs, refused, run_host
from toolchain.resources import folder
from toolchain.simulation.simulator import Simulator

pytestmark = pytest.mark.csim
HOST = folder("hls_templates") / "host"
C_FUNCTIONS = (
    "xrtDeviceOpen",
    "xrtDeviceClose",
    "xrtDeviceLoadXclbinFile",
    "xrtDeviceGetXclbinUUID",
    "xrtPLKernelOpenExclusive",
    "xrtKernelClose",
    "xrtKernelReadRegister",
)
"""Those that dct_xrt.py calls."""


def build(made, folder, stand_in: bool):
    """The host program, by the Makefile of the project: over the model, or with the system's XRT."""
    options = ["CXXFLAGS=-O0"]
    if stand_in:
        options = [
            f"XRT_FLAGS=-I{HERE / 'standin/xrt'} -I../c",
            f"XRT_LIBRARIES={made.library} -Wl,-rpath,{made.library.parent}",
            "CXXFLAGS=-O0 -Wno-conversion",
        ]
    argv = ["make", "-s", "-C", made.project / "host/xrt", f"BUILD={folder}", *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=None, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "host"


@pytest.fixture(scope="module")
def program(ports, tmp_path_factory):
    return build(ports, tmp_path_factory.mktemp("xrt"), stand_in=True)


@pytest.fixture(scope="module")
def loading(loaded, tmp_path_factory):
    return build(loaded, tmp_path_factory.mktemp("xrt"), stand_in=True)


def call(program, *arguments, **environment):
    argv = [program, *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, env=environment)


def files(made, folder, rows):
    """Options for inputs and outputs, and the paths of the latter by name."""
    options, targets = [], {}
    for one in made.description["inputs"]:
        path = folder / f"{one['identifier']}.npy"
        np.save(path, made.inputs[one["name"]][:rows])
        options += ["--inputs", path]
    for one in made.description["outputs"]:
        targets[one["name"]] = folder / f"{one['identifier']}.npy"
        options += ["--outputs", targets[one["name"]]]
    return options, targets


@needs(str(XRT_HEADERS / "xrt/xrt_kernel.h"), "libxrt-dev")
@pytest.mark.parametrize("which", ["ports", "loaded"])
def test_the_host_compiles_and_links_with_xrt(which, request, tmp_path):
    program = build(request.getfixturevalue(which), tmp_path, stand_in=False)
    needed = subprocess.run(["objdump", "-p", program], capture_output=True, text=True, check=True).stdout
    assert "libxrt_coreutil.so.2" in needed  # the name that dct_xrt.py opens
    refused(call(program, "--image", "x"), "--inputs has to be given")


@needs(str(XRT_HEADERS / "xrt/xrt_kernel.h"), "libxrt-dev")
def test_the_c_functions_of_the_python_host_are_in_xrt(ports):
    header = (XRT_HEADERS / "xrt/xrt_kernel.h").read_text() + (XRT_HEADERS / "xrt/xrt_device.h").read_text()
    text = (ports.project / "host/dct_xrt.py").read_text()
    (library,) = {path.resolve() for path in XRT_HEADERS.parents[1].glob("lib/*/libxrt_coreutil.so.2")}
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    for name in C_FUNCTIONS:
        assert name in text
        assert f"{name}(" in header
        assert f" T {name}\n" in symbols


def test_movers_have_the_arguments_that_hosts_set():
    """Arguments are set by their position: memory 0, beats 1."""
    text = (folder("hls_templates") / "flow/movers.cpp.j2").read_text()
    signatures = re.findall(r"void [^(]*\((.*)\) \{$", text, re.MULTILINE)
    assert signatures
    for one in signatures:
        assert re.search(r"\* memory, unsigned beats, hls::stream<", one)
    for name in ("dct_xrt.py", "xrt/host.cpp"):
        assert re.search(r"MOVER_MEMORY(, MOVER_BEATS)? = 0, (MOVER_BEATS = )?1\b", (HOST / name).read_text())


@pytest.mark.parametrize("options", [(), ("--batch", 5), ("--batch", 5, "--repeat", 2)])
@pytest.mark.parametrize("raw", [True, False])
def test_outputs_are_the_simulators(ports, program, tmp_path, options, raw):
    named, targets = files(ports, tmp_path, 13)
    image = ports.image(tmp_path / "image")
    done = call(program, "--image", image, *named, *options, *(["--raw"] if raw else []))
    assert (done.returncode, done.stderr) == (0, "")
    part = {name: data[:13] for name, data in ports.inputs.items()}
    expected = ports.simulator.predict_raw(part) if raw else ports.simulator.predict(part)
    for name, path in targets.items():
        got = np.load(path)
        assert got.dtype == expected[name].dtype
        assert np.array_equal(got, expected[name])
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {"build_id", "frames", "seconds", "frames_per_second"}
    assert figures["build_id"] == ports.description["build_id"]
    assert figures["frames"] == (26 if "--repeat" in options else 13)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64, np.float32, np.float64])
def test_arrays_of_any_type_are_read(ports, program, tmp_path, dtype):
    named, targets = files(ports, tmp_path, 3)
    rng, inputs = np.random.default_rng(8), {}
    for k, one in enumerate(ports.description["inputs"]):
        low, high = (max(one["range"][0], -128), min(one["range"][1], 127))
        inputs[one["name"]] = rng.integers(low, high + 1, (3, *one["shape"])).astype(dtype)
        np.save(named[2 * k + 1], inputs[one["name"]])
    done = call(program, "--image", ports.image(tmp_path / "image"), *named, "--raw")
    assert (done.returncode, done.stderr) == (0, "")
    expected = ports.simulator.predict_raw(inputs)
    assert all(np.array_equal(np.load(path), expected[name]) for name, path in targets.items())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("never done", "did not finish in time"),
        ("early last", "did not finish in time"),
        ("missing beat", "did not finish in time"),
        ("other build", "the hardware has the build id 0x"),
        ("no last", "s2mm_"),
    ],
)
def test_broken_hardware_is_reported(ports, program, tmp_path, name, text):
    named, targets = files(ports, tmp_path, 3)
    targets = [path.unlink(missing_ok=True) for path in targets.values()]
    image = ports.image(tmp_path / "image")
    refused(call(program, "--image", image, *named, MODEL_FAULT=str(FAULTS[name])), text)
    assert len(list(tmp_path.glob("*.npy*"))) == len(ports.inputs)


def test_wrong_inputs_are_refused(ports, program, tmp_path):
    image = ports.image(tmp_path / "image")
    named, _ = files(ports, tmp_path, 3)
    first = named[1]

    def refuse(text):
        refused(call(program, "--image", image, *named), text)

    np.save(first, np.full((3, 2, 6, 6), np.inf))
    refuse("NaN or infinity in frame 0")
    np.save(first, ports.inputs["a"][:2])
    refuse("another number of frames")
    np.save(first, ports.inputs["a"][:3, :, :5])
    refuse("has 60 numbers a frame, the input a takes 72")
    np.save(first, np.full((3, 2, 6, 6), 128))
    refuse("does not fit the input a")
    np.save(first, np.asfortranarray(ports.inputs["a"][:3]))
    refuse("Fortran order")
    np.save(first, ports.inputs["a"][:3].astype(np.float16))
    refuse("16 bits")
    np.save(first, np.zeros((3, 2, 6, 6), complex))
    refuse("elements of type")
    whole = first.read_bytes()
    for size in (0, 5, 11, 40, len(whole) - 1):
        first.write_bytes(whole[:size])
        refuse(".npy: ")
    first.unlink()
    refuse("cannot be read")


def test_weights_are_loaded(loaded, loading, tmp_path):
    named, targets = files(loaded, tmp_path, 9)
    (target,) = targets.values()
    inputs = {"x": loaded.inputs["x"][:9]}
    image = loaded.image(tmp_path / "image")
    refused(call(loading, "--image", image, *named), "has no weights yet")
    refused(call(loading, "--image", image, *named, "--weights", loaded.strange), "status 16")
    for weights, simulator in (
        (loaded.project / "weights.bin", loaded.simulator),
        (loaded.other, Simulator(loaded.other_graph)),
    ):
        done = call(loading, "--image", image, *named, "--raw", "--weights", weights)
        assert (done.returncode, done.stderr) == (0, "")
        assert np.array_equal(np.load(target), simulator.predict_raw(inputs))


# ------------------------------------------------------------------------------------------- pyxrt


@pytest.fixture(scope="module")
def coreutil(tmp_path_factory):
    """The folder of the stand-in of XRT's C library."""
    folder = tmp_path_factory.mktemp("coreutil")
    source, library = HERE / "standin/xrt/coreutil.c", folder / "libxrt_coreutil.so.2"
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", library], check=True)
    return folder


@pytest.fixture
def on_card(tmp_path, coreutil):
    """run.py of a project as if it were for a card: the kernels are the same for every flow."""

    def run(made, image, *options):
        host = tmp_path / "project/host"
        if not host.exists():
            shutil.copytree(made.project / "host", host)
            (host / "accelerator.json").write_text(json.dumps(made.description | {"flow": "vitis"}))
        return run_host(tmp_path / "project", "--image", image, *options, LD_LIBRARY_PATH=str(coreutil))

    return run


def test_python_gives_the_simulators_outputs(ports, on_card, tmp_path, save):
    part = {name: data[:13] for name, data in ports.inputs.items()}
    target = tmp_path / "outputs.npz"
    options = ("--inputs", save(part), "--outputs", target, "--raw", "--batch", 5)
    done = on_card(ports, ports.image(tmp_path / "image"), *options)
    assert (done.returncode, done.stderr) == (0, "")
    expected = ports.simulator.predict_raw(part)
    with np.load(target) as got:
        assert all(np.array_equal(got[name], values) for name, values in expected.items())
    assert json.loads(done.stdout)["build_id"] == ports.description["build_id"]


def test_python_loads_weights(loaded, on_card, tmp_path, save):
    target, inputs = tmp_path / "outputs.npy", {"x": loaded.inputs["x"][:9]}
    options = ("--inputs", save(inputs), "--outputs", target, "--raw")
    image = loaded.image(tmp_path / "image")
    refused(on_card(loaded, image, *options), "has no weights yet")
    refused(on_card(loaded, image, *options, "--weights", loaded.strange), "status 16")
    done = on_card(loaded, image, *options, "--weights", loaded.other)
    assert (done.returncode, done.stderr) == (0, "")
    assert np.array_equal(np.load(target), Simulator(loaded.other_graph).predict_raw(inputs))


def test_python_reports_broken_hardware(ports, on_card, tmp_path, save):
    options = ("--inputs", save(ports.inputs), "--outputs", tmp_path / "outputs.npz")
    for name, text in (("missing beat", "s2mm_"), ("never done", "did not finish"), ("other build", "build id")):
        refused(on_card(ports, fault(ports.image(tmp_path / "image"), name), *options), text)
    refused(on_card(ports, ports.image(tmp_path / "image"), *options, "--device", 1), "XRT cannot open it")
