"""TensorFlow's graphs: what is read of them before TensorFlow sees any, and, where it is installed, the conversion."""

import importlib.util
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.small import Model, run
from toolchain.errors import ModelError, UnsafeModel
from toolchain.frontends import read_graph, tensorflow_files
from toolchain.frontends.tensorflow_files import SAVED_MODEL, VARIABLES, ends_of, operations, read_message
from toolchain.frontends.tensorflow_operators import COMPUTING, OUTPUTS, SAVING, SEVERAL
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


def saved(folder, functions=(), nodes=NODES):
    place = folder / "net"
    (place / VARIABLES).mkdir(parents=True)
    message = tensorflow_files._MESSAGES["SavedModel"]()
    meta = message.meta_graphs.add()
    meta.graph_def.CopyFrom(graph_def(nodes, functions))
    meta.object_graph_def.SetInParent()
    (place / SAVED_MODEL).write_bytes(message.SerializeToString())
    return place


def told(path, shapes):
    message = read_message(path.read_bytes(), is_saved_model=False)
    return ends_of(next(operations(message)), shapes, path.name)


def test_inputs_and_outputs_of_a_frozen_graph_are_found(tmp_path):
    path = frozen(tmp_path)
    assert told(path, SHAPE) == ["--inputs=x:0[-1,8,8,3]", "--outputs=y:0", "--graphdef"]
    assert told(path, {"x:0": (1, 8, 8, 3)}) == told(path, SHAPE)


@pytest.mark.parametrize(("kind", "count"), [("Split", 3), ("Unpack", 2), ("TopKV2", 2), ("FusedBatchNormV3", 1)])
def test_all_outputs_of_a_last_node_are_outputs(kind, count, tmp_path):
    message = graph_def((*NODES, ("parts", kind, ("y",))))
    one = message.node[-1].attr.add(key="num" if kind == "Unpack" else "num_split")
    one.value.i = count
    (tmp_path / "net.pb").write_bytes(message.SerializeToString())
    outputs = ",".join(f"parts:{index}" for index in range(count))
    assert told(tmp_path / "net.pb", SHAPE)[1] == f"--outputs={outputs}"


@pytest.mark.parametrize("kind", ["IdentityN", "PartitionedCall", "While", "Unique"])
def test_last_nodes_whose_outputs_are_not_counted_are_refused(kind, tmp_path):
    with pytest.raises(ModelError, match=rf"net\.pb: parts.*{kind}.*Identity"):
        told(frozen(tmp_path, (*NODES, ("parts", kind, ("y",)))), SHAPE)


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [({}, "--input-shape x=1,ROWS,COLUMNS,CHANNELS"), ({"z": (1, 2)}, "has no input 'z'. Its inputs are x.")],
)
def test_shapes_are_asked_for_by_name(shapes, complaint, tmp_path):
    with pytest.raises(ModelError) as error:
        told(frozen(tmp_path), shapes)
    assert complaint in str(error.value)


REACHING = (
    "WriteFile", "ReadFile", "PyFunc", "EagerPyFunc", "TFRecordDataset", "PrintV2", "RpcCall", "Save", "SaveV2",
    "RestoreV2", "ImmutableConst", "InitializeTableFromTextFileV2", "LoadAndRemapMatrix", "DecodeProtoV2",
    "FileSystemSetConfiguration", "OneShotIterator", "XlaCallModule", "NoSuchOperator",
)  # fmt: skip


@pytest.mark.parametrize("kind", REACHING)
def test_operators_that_are_not_on_the_list_are_refused_before_tensorflow_runs(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started a process"))
    bad = ("bad", kind, ("y",))
    with pytest.raises(UnsafeModel, match=f"compute only: {kind}"):
        tensorflow_files.load(frozen(tmp_path, (*NODES, bad)), SHAPE)
    if kind not in SAVING:
        with pytest.raises(UnsafeModel, match=f"compute only: {kind}"):
            tensorflow_files.load(saved(tmp_path, [NODES, (("a", "Identity", ()), bad)]))


def test_no_operator_that_only_computes_has_a_name_of_files():
    assert not [name for name in COMPUTING if re.search("File|Save|Restore|Checkpoint|Dataset|Proto|Table|Py", name)]


def test_tensorflow_sees_a_copy_without_the_functions_that_reach_files(tmp_path, monkeypatch):
    """The loader runs what the file names, so that where they stand would prove nothing."""
    save = (("p", "StringJoin", ()), ("s", "SaveV2", ("p",)))
    path = saved(tmp_path, [NODES, save, (("r", "RestoreV2", ()),)], (*NODES, ("call", "PyFunc", ())))
    (path / VARIABLES / "variables.index").write_bytes(b"numbers")
    seen = []

    def convert(command, **_):
        folder = Path(command[command.index("--saved-model") + 1])
        seen.append(read_message((folder / SAVED_MODEL).read_bytes(), is_saved_model=True).meta_graphs[0])
        assert (folder / VARIABLES / "variables.index").read_bytes() == b"numbers"
        return subprocess.CompletedProcess(command, 1, "", "enough seen")

    converting(monkeypatch, convert)
    with pytest.raises(ModelError, match="enough seen"):
        tensorflow_files.load(path)
    (graph,) = seen
    assert [[node.op for node in one.node_def] for one in graph.graph_def.library.function] == [
        [kind for _, kind, _ in NODES]
    ]
    assert [node.op for node in graph.graph_def.node] == ["Const"], "which functions capture"
    assert graph.HasField("object_graph_def")


def test_what_is_not_read_survives_the_copy(tmp_path):
    data = graph_def().SerializeToString() + b"\x22\x02\x08\x05"  # versions { producer: 5 }
    assert data.endswith(read_message(data, is_saved_model=False).SerializeToString()[-4:])


def test_a_saved_model_of_tensorflow_1_is_refused_since_its_loader_runs_the_graph(tmp_path):
    path = saved(tmp_path, [NODES])
    message = read_message((path / SAVED_MODEL).read_bytes(), is_saved_model=True)
    message.meta_graphs[0].ClearField("object_graph_def")
    (path / SAVED_MODEL).write_bytes(message.SerializeToString())
    with pytest.raises(ModelError, match="no SavedModel of TensorFlow 2"):
        tensorflow_files.load(path)


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_variables_that_are_links_are_refused(link, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    path = saved(tmp_path, [NODES])
    link(path / VARIABLES / "variables.index", tmp_path / "secret")
    with pytest.raises(UnsafeModel, match=r"variables\.index is a link"):
        tensorflow_files.load(path)


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
    assert seen[1:4] == ["-P", "-m", "tf2onnx.convert"]
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
def test_captured_constants_are_kept(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    pytest.importorskip("tf2onnx")
    module = tensorflow.Module()
    module.v, c = tensorflow.Variable(tensorflow.ones((4, 3))), tensorflow.constant([[1.0, 2.0, 3.0]])
    spec = tensorflow.TensorSpec((None, 4))
    module.f = tensorflow.function(lambda x: x @ module.v + c, input_signature=[spec])
    tensorflow.saved_model.save(module, tmp_path / "net", signatures=module.f)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.array_equal(evaluated(read_graph(tmp_path / "net"), x), module.f(x).numpy())


@pytest.mark.optional
def test_the_lists_of_operators_are_tensorflows():
    pytest.importorskip("tensorflow")
    from tensorflow.python.framework import op_def_registry

    known = {name: op_def_registry.get(name) for name in COMPUTING}
    assert all(known.values())

    def several(outputs):
        return len(outputs) > 1 or any(one.number_attr or one.type_list_attr for one in outputs)

    counted = {name for name, one in known.items() if one and several(one.output_arg)}
    first_only = {"IteratorGetNext", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "ConcatOffset"}
    assert counted - first_only == SEVERAL | OUTPUTS.keys()


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
