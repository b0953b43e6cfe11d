"""Under a budget of multiplications, where a layer is executed decides where it may be coded."""

import json

import numpy as np
import pytest

from tests.small import Model, run
from toolchain.quantization.configuration import load_configuration


@pytest.mark.parametrize(
    ("model", "layer", "everywhere", "there"),
    [
        ({}, {"execute": "spatial"}, "auto", "spatial"),
        ({}, {"execute": "auto"}, "auto", "auto"),
        ({}, {"execute": "spatial", "pack": "dct"}, "auto", "dct"),
        ({}, {"execute": "spatial", "pack": "none"}, "auto", "none"),
        ({"execute": "spatial"}, {}, "spatial", "spatial"),
        ({"execute": "spatial"}, {"pack": "auto"}, "spatial", "spatial"),
        ({"execute": "spatial"}, {"execute": "frequency"}, "spatial", "auto"),
        ({"execute": "spatial"}, {"execute": "auto", "pack": "dct"}, "spatial", "dct"),
        ({"execute": "frequency"}, {"execute": "spatial"}, "auto", "spatial"),
        ({"pack": "dct"}, {"execute": "spatial"}, "dct", "dct"),
        ({"pack": "dct", "execute": "spatial"}, {"pack": "auto"}, "dct", "spatial"),
    ],
)
def test_only_a_free_choice_follows_execution(model, layer, everywhere, there):
    coded = load_configuration({"model": model, "layers": {"conv": layer}}).coded_as_executed()
    assert coded.pack == everywhere
    assert (coded.layer("conv").pack or coded.pack) == there
    assert coded.layer("conv").execute == layer.get("execute")


def test_other_layers_and_formats_stay():
    given = {"conv": {"weight": "fixed<8,2>", "execute": "spatial"}, "relu": {"output": "fixed<8,3>"}}
    configuration = load_configuration({"layers": given})
    assert configuration.coded_as_executed() == configuration


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two convolutions with kernels so smooth that coding in frequency is what a free choice takes."""
    folder = tmp_path_factory.mktemp("execute")
    m = Model()
    m.input("x", "N", 2, 8, 8)
    wave = np.outer(np.hanning(5), np.hanning(5))[1:4, 1:4]
    for given, name, channels in (("x", "first", 2), ("relu_first", "second", 16)):
        kernels = m.rng.normal(size=(16, channels, 1, 1)) * wave + 0.01 * m.rng.normal(size=(16, channels, 3, 3))
        m.add("Conv", given, m.constant(kernels), m.noise(16), name=name, pads=[1, 1, 1, 1])
        m.add("Relu", name, name=f"relu_{name}")
    m.output(m.add("GlobalAveragePool", "relu_second", name="mean"))
    m.save(folder / "m.onnx")
    noise = np.random.default_rng(0).normal(size=(48, 2, 12, 12))
    smooth = sum(noise[:, :, i : i + 8, j : j + 8] for i in range(5) for j in range(5)) / 5
    np.save(folder / "x.npy", smooth.astype(np.float32))
    return folder


def compiled(made, folder, toml):
    (folder / "c.toml").write_text(toml)
    options = ("--calibrate", made / "x.npy", "--config", folder / "c.toml", "--budget", "60kMAC")
    assert run("compile", made / "m.onnx", "-o", folder / "p", *options) == 0
    layers = json.loads((folder / "p/report.json").read_text())["layers"]
    return {layer["name"]: (layer["coding"], layer["execution"]) for layer in layers if layer["weight_type"]}


def test_a_free_choice_is_frequency(made, tmp_path):
    """A test of the test below."""
    assert compiled(made, tmp_path, "")["second"][0] == "frequency"


def test_a_layer_that_is_executed_in_space_is_coded_there(made, tmp_path):
    found = compiled(made, tmp_path, '[layers."second"]\nexecute = "spatial"\n')
    assert found["second"] == ("spatial", "spatial")


def test_a_layer_may_leave_the_space_of_all_others(made, tmp_path):
    toml = '[model]\nexecute = "spatial"\n[layers."second"]\nexecute = "frequency"\n'
    found = compiled(made, tmp_path, toml)
    assert found["first"] == ("spatial", "spatial")
    assert found["second"] == ("frequency", "frequency")
