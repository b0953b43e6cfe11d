"""Users' array files: every name of an output survives, and a file's name says what is in it."""

import numpy as np
import pytest

from tests.small import Model, rows, run
from toolchain.compiler import compile_model
from toolchain.errors import ConfigurationError
from toolchain.project import load
from toolchain.simulation.arrays import load_arrays, save_arrays


def test_names_that_numpy_takes_for_its_own(tmp_path):
    names = ["file", "allow_pickle", "args", "kwds", "arr_0", "a/b", "a.npy", "ä b"]
    arrays = {name: np.arange(k + 1) for k, name in enumerate(names)}
    save_arrays(tmp_path / "y.npz", arrays)
    with np.load(tmp_path / "y.npz") as loaded:
        assert sorted(loaded.files) == sorted(names)
    for name, array in load_arrays(tmp_path / "y.npz", names).items():
        assert np.array_equal(array, arrays[name])
    first = (tmp_path / "y.npz").read_bytes()
    save_arrays(tmp_path / "y.npz", arrays)
    assert (tmp_path / "y.npz").read_bytes() == first


def test_several_arrays_are_no_npy(tmp_path):
    with pytest.raises(ConfigurationError, match=r"Write y\.npz"):
        save_arrays(tmp_path / "y.npy", {"a": np.zeros(1), "b": np.zeros(1)})
    assert not list(tmp_path.iterdir())


def test_simulate_with_an_output_called_file(tmp_path, capsys):
    m = Model()
    m.input("x", "N", 6)
    m.output(m.add("Gemm", "x", m.noise(6, 5), m.noise(5), name="file"))
    m.output(m.add("Relu", "file", name="allow_pickle"))
    compile_model(m.save(tmp_path / "net.onnx"), tmp_path / "p", calibrate=rows(4, 6))
    np.save(tmp_path / "x.npy", rows(3, 6))
    given = ["simulate", tmp_path / "p", "--inputs", tmp_path / "x.npy", "-o"]
    assert run(*given, tmp_path / "y.npy", "--trace", tmp_path / "t") == 2
    assert "Write y.npz" in capsys.readouterr().err
    assert not (tmp_path / "y.npy").exists()
    assert not (tmp_path / "t").exists()
    assert run(*given, tmp_path / "y.npz") == 0
    with np.load(tmp_path / "y.npz") as loaded:
        expected = load(tmp_path / "p").simulator().predict(rows(3, 6))
        assert set(loaded.files) == set(expected) == {"file", "allow_pickle"}
        assert all(np.array_equal(loaded[name], values) for name, values in expected.items())
