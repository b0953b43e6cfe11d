"""Traces as files: batches, each value once, and nothing left of one that fails."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.small import Model, dense, rows
from toolchain.compiler import compile_model
from toolchain.errors import ConfigurationError
from toolchain.project import load
from toolchain.simulation.fast import FastEngine
from toolchain.simulation.trace import write_trace


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trace")
    return load(compile_model(dense(folder / "net.onnx"), folder / "p", calibrate=rows(8, 6)).path)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_files_hold_what_trace_gives(tmp_path, project, engine, monkeypatch):
    """Over several batches, and with the outputs of the same single run."""
    x = {project.graph.inputs[0].name: rows(150, 6)}
    simulator = project.simulator(engine=engine)
    wanted = dict(simulator.trace(x))
    ran = []
    evaluate = FastEngine.evaluate
    monkeypatch.setattr(
        FastEngine, "evaluate", lambda self, given, *rest: ran.append(len(given["x"])) or evaluate(self, given, *rest)
    )
    seen = []
    outputs = write_trace(tmp_path / "t", simulator, x, lambda done, total: seen.append((done, total)))
    assert seen == [(64, 150), (128, 150), (150, 150)]
    assert ran == ([64, 64, 22] if engine == "fast" else [])
    for name, values in simulator.raw_outputs(x).items():
        assert np.array_equal(outputs[name], values)
    index = json.loads((tmp_path / "t/index.json").read_text())
    assert [entry["layer"] for entry in index] == list(wanted)
    for entry in index:
        values = np.load(tmp_path / "t" / entry["file"])
        assert values.dtype == np.int64
        assert np.array_equal(values, wanted[entry["layer"]])


def test_memory_does_not_grow_with_the_rows(tmp_path):
    m = Model()
    m.input("x", "N", 2, 32, 32)
    name = "x"
    for _ in range(4):
        name = m.add("Relu", m.add("Conv", name, m.noise(2, 2, 3, 3), pads=[1, 1, 1, 1]))
    m.output(m.add("GlobalAveragePool", name))
    compile_model(m.save(tmp_path / "net.onnx"), tmp_path / "p", calibrate=rows(4, 2, 32, 32))
    simulator, x = load(tmp_path / "p").simulator(), {"x": rows(1024, 2, 32, 32)}
    tracemalloc.start()
    try:
        write_trace(tmp_path / "t", simulator, x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(path.stat().st_size for path in (tmp_path / "t").iterdir()) > 8 * 1024 * 2048 * 8
    assert peak < 40 << 20


def test_a_trace_that_fails_leaves_nothing(tmp_path, project, monkeypatch):
    x = {project.graph.inputs[0].name: rows(5, 6)}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        write_trace(tmp_path / "t", project.simulator(), x)
    assert not list(tmp_path.iterdir())
