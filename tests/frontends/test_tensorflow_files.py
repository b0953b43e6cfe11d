"""TensorFlow's graphs: what is read of them before TensorFlow sees any, and, where it is installed, the conversion."""

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.small import Model, run
from toolchain.errors import ModelError, UnsafeModel
from toolchain.frontends import read_graph, tensorflow_files
from toolchain.frontends.tensorflow_files import SAVED_MODEL, arguments, read_operations
from toolchain.passes import pipeline
from toolchain.simulation import reference

DATA = Path(__file__).parents[3] / "shared/data"
NODES = (("x", "Placeholder", ()), ("w", "Const", ()), ("conv", "Conv2D", ("x", "w:0")), ("y", "Relu", ("conv", "^w")))
SHAPE = {"x": (1, 8, 8, 3)}


def graph_def(nodes=NODES, functions=()):
    message = tensorflow_files._MESSAGES["GraphDef"]()
    for name, kind, inputs in nodes:
        message.node.add(name=name, op=kind, input=inputs)
    for members in functions:
        function = message.library.function.add()
        for name, kind, inputs in members:
            function.node_def.add(name=name, op=kind, input=inputs)
    return message


def frozen(folder, nodes=NODES):
    path = folder / "net.pb"
    path.write_bytes(graph_def(nodes).SerializeToString())
    return path


def saved(folder, functions=()):
    place = folder / "net"
    place.mkdir()
    message = tensorflow_files._MESSAGES["SavedModel"]()
    message.meta_graphs.add().graph_def.CopyFrom(graph_def(functions=functions))
    (place / SAVED_MODEL).write_bytes(message.SerializeToString())
    return place


def told(path, shapes):
    return arguments(path, next(read_operations(path.read_bytes(), is_saved_model=False)), shapes)


def test_inputs_and_outputs_of_a_frozen_graph_are_found(tmp_path):
    path = frozen(tmp_path)
    assert told(path, SHAPE) == [
        "--graphdef", str(path), "--inputs", "x:0[-1,8,8,3]", "--outputs", "y:0", "--opset", "18",
    ]  # fmt: skip
    assert told(path, {"x:0": (1, 8, 8, 3)}) == told(path, SHAPE)


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [({}, "--input-shape x=1,ROWS,COLUMNS,CHANNELS"), ({"z": (1, 2)}, "has no input 'z'. Its inputs are x.")],
)
def test_shapes_are_asked_for_by_name(shapes, complaint, tmp_path):
    with pytest.raises(ModelError) as error:
        told(frozen(tmp_path), shapes)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    "kind", ["WriteFile", "ReadFile", "PyFunc", "EagerPyFunc", "TFRecordDataset", "PrintV2", "RpcCall"]
)
def test_operators_that_reach_out_are_refused_before_tensorflow_runs(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started a process"))
    path = frozen(tmp_path, (*NODES, ("bad", kind, ("y",))))
    with pytest.raises(UnsafeModel, match=kind):
        tensorflow_files.load(path, SHAPE)


def test_functions_of_a_saved_model_are_looked_at_too(tmp_path):
    with pytest.raises(UnsafeModel, match="WriteFile"):
        tensorflow_files.load(saved(tmp_path, [(("a", "Identity", ()), ("bad", "WriteFile", ("a",)))]))


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"nonsense that is no graph at all"])
def test_damaged_files_are_refused(data, tmp_path, capsys):
    (tmp_path / "net.pb").write_bytes(data)
    assert run("inspect", tmp_path / "net.pb") == 2
    assert "TensorFlow graph" in capsys.readouterr().err


def test_a_folder_that_is_no_model_is_refused(tmp_path, capsys):
    assert run("inspect", tmp_path) == 2
    assert "without saved_model.pb" in capsys.readouterr().err


def test_without_the_extra_the_line_to_type_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert run("inspect", frozen(tmp_path), "--input-shape", "x=1,8,8,3") == 3
    assert "pip install 'dct-toolchain[tensorflow]'" in capsys.readouterr().err


def converting(monkeypatch, convert):
    """tf2onnx as a function of its arguments."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(subprocess, "run", convert)


def test_what_tf2onnx_writes_is_the_model(tmp_path, monkeypatch):
    seen = []

    def convert(command, **_):
        seen.extend(command)
        m = Model()
        m.input("x:0", "N", 4)
        m.output(m.add("Gemm", "x:0", m.noise(4, 2), m.noise(2)))
        m.save(Path(command[command.index("--output") + 1]))
        return subprocess.CompletedProcess(command, 0, "", "")

    converting(monkeypatch, convert)
    graph = read_graph(frozen(tmp_path), None, {"x": (1, 4)})
    assert [given.name for given in graph.inputs] == ["x:0"]
    assert seen[1:3] == ["-m", "tf2onnx.convert"]
    assert not Path(seen[seen.index("--output") + 1]).parent.exists(), "nothing is left behind"


def test_what_tf2onnx_says_is_passed_on(tmp_path, monkeypatch):
    def convert(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "Traceback\n  File ...\nValueError: no such operator\n")

    converting(monkeypatch, convert)
    with pytest.raises(ModelError, match="tf2onnx cannot convert it: ValueError: no such operator"):
        tensorflow_files.load(frozen(tmp_path), SHAPE)


def test_a_pytorch_file_is_told_how_to_come_in(tmp_path, capsys):
    (tmp_path / "net.pt").write_bytes(b"PK")
    assert run("inspect", tmp_path / "net.pt") == 2
    assert "torch.onnx.export" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ with TensorFlow


def evaluated(graph, x):
    graph = pipeline.run(graph, pipeline.REAL_PASSES)
    (given,), (output,) = graph.inputs, graph.outputs
    return output.to_model(reference.evaluate(graph, {given.name: given.from_model(x).astype(float)})[output.name])


@pytest.mark.optional
def test_a_saved_model_is_what_tensorflow_computes(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    keras = tensorflow.keras
    net = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    net.export(tmp_path / "net")
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(evaluated(read_graph(tmp_path / "net"), x), net(x).numpy(), atol=1e-5)


@pytest.mark.optional
def test_a_frozen_graph_enlarges_pictures(tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    path = DATA / "superres/ESPCN_x2.pb"
    if not path.is_file():
        pytest.skip("the shared models are not beside the repository")
    graph = read_graph(path, None, {"IteratorGetNext": (1, 16, 16, 1)})
    x = np.linspace(0, 1, 256).reshape(1, 16, 16, 1)
    large = evaluated(graph, x)
    assert large.shape == (1, 1, 32, 32)
    assert np.abs(large[0, 0, ::2, ::2] - x[0, :, :, 0]).mean() < 0.05
