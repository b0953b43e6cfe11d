"""Two projects with the model of their hardware: constant weights with two inputs and outputs, and loaded weights."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.host.hardware import build_model, description_of, make_image
from tests.small import Model, rows, two_ports
from tests.streamed import streamed_only
from toolchain.compiler import compile_model
from toolchain.exchange import other_weights
from toolchain.packing import choice
from toolchain.project import load


@dataclass(frozen=True)
class Made:
    """A project, its model, and inputs by name."""

    project: Path
    library: Path
    inputs: dict

    def image(self, folder: Path) -> Path:
        return make_image(self.project, self.library, folder)

    @property
    def description(self):
        return description_of(self.project)

    @property
    def simulator(self):
        return load(self.project).simulator()


@pytest.fixture(scope="session")
def ports(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("ports")
    data = {"a": rows(32, 2, 6, 6, seed=1), "b": rows(32, 4, 3, 3, seed=2)}
    compile_model(two_ports(folder / "two.onnx"), folder / "project", calibrate=data, board="pynq-z2")
    return Made(folder / "project", build_model(folder / "project", folder), data)


def small_network(path: Path, seed: int, outputs: int = 4) -> Path:
    m = Model(seed=seed)
    m.input("x", 1, 1, 6, 6)
    m.add("Relu", m.add("Conv", "x", m.noise(4, 1, 3, 3), m.noise(4), name="stem"), name="a")
    m.output(m.add("Gemm", m.add("Flatten", "a", name="flat"), m.noise(64, outputs), m.noise(outputs), name="scores"))
    return m.save(path)


@dataclass(frozen=True)
class MadeLoaded(Made):
    """With two containers for the hardware: the project's own, and one of other weights with the graph they are of."""

    other: Path
    other_graph: object
    strange: Path


@pytest.fixture(scope="session")
def loaded(tmp_path_factory) -> MadeLoaded:
    folder = tmp_path_factory.mktemp("loaded")
    data = rows(48, 1, 6, 6)
    settings = {"calibrate": data, "weight_memory": "loaded", "board": "pynq-z2"}
    compile_model(small_network(folder / "net.onnx", 3), folder / "project", **settings)
    compile_model(small_network(folder / "strange.onnx", 3, outputs=5), folder / "strange", **settings)
    fresh = other_weights(folder / "project", small_network(folder / "other.onnx", 5), calibrate=data)
    (folder / "other.bin").write_bytes(fresh.data)
    library = build_model(folder / "project", folder)
    strange = folder / "strange/weights.bin"
    return MadeLoaded(folder / "project", library, {"x": data}, folder / "other.bin", fresh.graph, strange)


@pytest.fixture(scope="session")
def streamed(tmp_path_factory) -> MadeLoaded:
    """Weights that stay in memory. No other ones fit the hardware, whose first layer is constant."""
    folder = tmp_path_factory.mktemp("streamed_host")
    data = rows(48, 1, 6, 6)
    settings = {"calibrate": data, "board": "pynq-z2", "config": {"model": {"weight_memory": "streamed"}}}
    with pytest.MonkeyPatch.context() as patch:
        streamed_only(patch)
        patch.setattr(choice, "SUBSTREAM", 30)
        compile_model(small_network(folder / "net.onnx", 3), folder / "project", **settings)
        compile_model(small_network(folder / "strange.onnx", 3, outputs=5), folder / "strange", **settings)
    library = build_model(folder / "project", folder)
    strange = folder / "strange/weights.bin"
    return MadeLoaded(folder / "project", library, {"x": data}, folder / "project/weights.bin", None, strange)


@pytest.fixture
def save(tmp_path):
    """Writes arrays as the command line wants them."""

    def written(arrays: dict, name: str = "inputs") -> Path:
        if len(arrays) == 1:
            path = tmp_path / f"{name}.npy"
            np.save(path, next(iter(arrays.values())))
        else:
            path = tmp_path / f"{name}.npz"
            np.savez(path, **arrays)
        return path

    return written
