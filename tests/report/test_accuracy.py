"""`evaluate`: the float model and the integer program read the same input."""

import numpy as np
import pytest

from tests.small import Model
from toolchain.compiler import compile_model
from toolchain.errors import InputError
from toolchain.progress import no_progress
from toolchain.report.accuracy import evaluate_project


@pytest.fixture
def place(tmp_path):
    """Classes are split at 0.5, so that scaling an input changes its class; the program reads it with 7 or 8 bits."""
    m = Model()
    m.input("x", "N", 1)
    m.output(m.add("Gemm", "x", m.constant([[1.0, -1.0]]), m.constant([-0.5, 0.5]), name="score"))
    path = m.save(tmp_path / "m.onnx")
    x = np.linspace(0.01, 0.99, 64)[:, None]
    compile_model(path, tmp_path / "p", calibrate=x)
    np.save(tmp_path / "real.npy", x)
    np.save(tmp_path / "labels.npy", (x[:, 0] < 0.5).astype(int))
    return tmp_path


def result(place, inputs):
    return evaluate_project(place / "p", place / inputs, place / "labels.npy", place / "m.onnx", None, no_progress)


def test_raw_integers_are_read_alike(place):
    np.save(place / "raw.npy", np.clip(np.round(np.load(place / "real.npy") * 256), 0, 255).astype(np.int16))
    wanted = {"samples": 64, "integer_accuracy": 1.0, "float_accuracy": 1.0, "agreement": 1.0}
    assert result(place, "real.npy") == wanted
    assert result(place, "raw.npy") == wanted


def test_raw_integers_outside_the_format_are_refused(place):
    np.save(place / "raw.npy", np.full((64, 1), 256))
    with pytest.raises(InputError, match="raw"):
        result(place, "raw.npy")
