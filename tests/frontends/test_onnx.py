"""ONNX files of every age, and hostile ones: read right, or refused with one clear error; nothing runs or leaks."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.small import Model, dense, rows, run
from toolchain.compiler import compile_model
from toolchain.errors import ModelError, ToolchainError, UnsafeModel, UnsupportedOperator
from toolchain.frontends import folding, read_graph
from toolchain.frontends import onnx as frontend
from toolchain.project import load
from toolchain.simulation import reference
from toolchain.verification.csim import verify_hls


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Generated C++ is not optimized here: these designs compile longer than they run."""
    monkeypatch.setenv("CXXFLAGS", "-O0")


OPSETS = (6, 7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 21, onnx.defs.onnx_opset_version())


def real(graph, **inputs):
    """The float graph's outputs in the model's layout."""
    given = {one.name: one.from_model(inputs[one.name].astype(np.float64)) for one in graph.inputs}
    values = reference.evaluate(graph, given)
    return [output.to_model(values[output.name]) for output in graph.outputs]


def onnx_runtime(path_or_model, **inputs):
    proto = path_or_model if isinstance(path_or_model, onnx.ModelProto) else onnx.load(path_or_model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def of_age(opset: int) -> Model:
    """One network in the dialect of an opset: attributes that became inputs, defaults that changed."""
    m = Model(opset)
    m.input("x", 2, 3, 6, 6)
    old = {"is_test": 1} if opset < 7 else {}
    x = m.add("Conv", "x", m.noise(4, 3, 3, 3), m.noise(4), pads=[1, 1, 1, 1])
    ones = [m.constant(v) for v in ([1.0, 2, 3, 4], [0.1] * 4, [0.2] * 4, [1.0, 2, 1, 2])]
    x = m.add("BatchNormalization", x, *ones, **old)
    x = m.add("Clip", x, min=-1.0, max=2.0) if opset < 11 else m.add("Clip", x, m.constant(-1.0), m.constant(2.0))
    pads = [0, 0, 1, 0, 0, 0, 0, 1]
    x = m.add("Pad", x, pads=pads) if opset < 11 else m.add("Pad", x, m.integers(*pads))
    x = m.add("Slice", x, starts=[0], ends=[6], axes=[2]) if opset < 10 else m.add(
        "Slice", x, m.integers(0), m.integers(6), m.integers(2))  # fmt: skip
    x = m.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = m.add("Dropout", x, **({"is_test": 1, "ratio": 0.5} if opset < 7 else {"ratio": 0.5} if opset < 12 else {}))
    x = m.add("Unsqueeze", x, axes=[1]) if opset < 13 else m.add("Unsqueeze", x, m.integers(1))
    x = m.add("Squeeze", x, axes=[1]) if opset < 13 else m.add("Squeeze", x, m.integers(1))
    x = m.add("GlobalAveragePool", x)
    x = m.add("Reshape", x, m.integers(0, -1))
    x = m.add("Gemm", x, m.noise(4, 3), m.noise(3), transB=0, **({"broadcast": 1} if opset < 7 else {}))
    m.output(m.add("Softmax", x, **({} if opset >= 13 else {"axis": 1})))
    return m


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset(tmp_path, opset):
    path = of_age(opset).save(tmp_path / "net.onnx")
    x = rows(2, 3, 6, 6)
    (wanted,) = onnx_runtime(of_age(17).proto(), x=x)
    (got,) = real(read_graph(path), x=x)
    assert np.abs(got - wanted).max() < 1e-5


@pytest.mark.parametrize("opset", [0, 1, 5, onnx.defs.onnx_opset_version() + 1, 10**6])
def test_opsets_outside(tmp_path, opset):
    m = Model(17)
    m.input("x", 1, 3)
    m.output(m.add("Relu", "x"))
    proto = m.proto()
    proto.opset_import[0].version = opset
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=f"opset {opset}"):
        read_graph(tmp_path / "net.onnx")


def test_no_opset_at_all(tmp_path):
    m = Model(17)
    m.input("x", 1, 3)
    m.output(m.add("Relu", "x"))
    proto = m.proto()
    del proto.opset_import[:]
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="opset"):
        read_graph(tmp_path / "net.onnx")


# Dimensions.


@pytest.mark.parametrize("batch", [1, 5, "N", None, 0])
def test_batch_is_free_or_fixed(tmp_path, batch):
    m = Model()
    m.input("x", batch, 4)
    m.output(m.add("Gemm", "x", m.noise(4, 2)))
    graph = read_graph(m.save(tmp_path / "net.onnx"))
    assert graph.inputs[0].model_shape == (4,)
    assert real(graph, x=rows(7, 4))[0].shape == (7, 2)


def free(path, *shape):
    m = Model()
    m.input("x", *shape)
    x = m.add("Conv", "x", m.noise(2, 3, 3, 3))
    m.output(m.add("GlobalMaxPool", x))
    return m.save(path)


@pytest.mark.parametrize(
    "shape", [("N", 3, "H", "W"), ("N", 3, None, None), ("N", 3, 8, "W"), ("N", 3, 0, 8), ("N", 3, -1, 8)]
)
def test_free_dimensions_need_a_size(tmp_path, shape):
    path = free(tmp_path / "net.onnx", *shape)
    with pytest.raises(ModelError, match="--input-shape x=1,3,"):
        read_graph(path)
    if -1 not in shape:
        assert read_graph(path, None, {"x": (1, 3, 8, 8)}).inputs[0].model_shape == (3, 8, 8)
    for wrong in ((1, 4, 8, 8), (1, 3, 8), (3, 8, 8), (1, 3, 2, 2)):
        with pytest.raises(ModelError):
            read_graph(path, None, {"x": wrong})


def test_no_rank_at_all(tmp_path):
    m = Model()
    m.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    m.output(m.add("Relu", "x"))
    path = m.save(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="--input-shape x=1,"):
        read_graph(path)
    assert read_graph(path, None, {"x": (1, 5)}).inputs[0].model_shape == (5,)


@pytest.mark.parametrize("shape", [(), (1,), (4,)])
def test_only_a_batch_dimension(tmp_path, shape):
    m = Model()
    m.input("x", *shape)
    m.output(m.add("Relu", "x"))
    with pytest.raises(ModelError):
        read_graph(m.save(tmp_path / "net.onnx"))


@pytest.mark.parametrize("size", [2**31, 2**62, 2**63 - 1])
def test_oversize_dimensions_allocate_nothing(tmp_path, size):
    """Quick and small, whatever the numbers say."""
    begin = time.monotonic()
    for shape in ((1, size), (1, 3, size, size), (size, 4)):
        m = Model()
        m.input("x", *shape)
        m.output(m.add("Relu", "x"))
        try:
            graph = read_graph(m.save(tmp_path / "net.onnx"))
            assert graph.inputs[0].model_shape == shape[1:]
        except ModelError:
            pass
    assert time.monotonic() - begin < 5


# Constants in all the places where exporters put them.


def test_constants_everywhere(tmp_path):
    """A Constant node, an initializer listed as input, ConstantOfShape, a shape that is computed."""
    m = Model(13)
    m.input("x", 1, 2, 3, 4)
    weights = m.rng.normal(size=(12, 5)).astype(np.float32)
    m.add("Constant", out="w", value=numpy_helper.from_array(weights, "v"))
    m.add("Constant", out="half", value_float=0.5)
    m.add("ConstantOfShape", m.integers(5), out="bias", value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.25]))
    m.constant(np.full((2, 3, 4), 1.5), "scale")
    m.inputs.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [2, 3, 4]))
    scaled = m.add("Mul", "x", "scale")
    size = m.add("Shape", scaled)
    batch = m.add("Gather", size, m.constant(0, dtype=np.int64), axis=0)
    channels = m.add("Gather", size, m.constant(1, dtype=np.int64), axis=0)
    rest = m.add("Div", m.constant(24, dtype=np.int64), channels)
    axes = m.integers(0)
    parts = [m.add("Unsqueeze", value, axes) for value in (batch, channels, rest)]
    x = m.add("Reshape", scaled, m.add("Concat", *parts, axis=0))
    x = m.add("MatMul", x, "w")
    x = m.add("Add", x, "bias")
    m.output(m.add("Mul", x, "half"))
    path = m.save(tmp_path / "net.onnx")
    graph = read_graph(path)
    assert [one.name for one in graph.inputs] == ["x"]
    x = rows(1, 2, 3, 4)
    assert np.abs(real(graph, x=x)[0] - onnx_runtime(path, x=x)[0]).max() < 1e-5


def test_functions_are_inlined(tmp_path):
    body = [helper.make_node("Mul", ["a", "a"], ["b"]), helper.make_node("Relu", ["a"], ["c"])]
    del body[0]
    function = helper.make_function("own", "Twice", ["a"], ["d"], [*body, helper.make_node("Add", ["c", "a"], ["d"])],
                                    [helper.make_opsetid("", 17)])  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="own"), helper.make_node("Twice", ["y"], ["z"], domain="own")],
        "g", [helper.make_tensor_value_info("x", 1, [1, 4])], [helper.make_tensor_value_info("z", 1, [1, 4])],
    )  # fmt: skip
    model = helper.make_model(
        graph, functions=[function], opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    )
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    x = rows(3, 4)
    got = real(read_graph(tmp_path / "net.onnx"), x=x)[0]
    y = np.maximum(x, 0) + x
    assert np.abs(got - (np.maximum(y, 0) + y)).max() < 1e-6


def test_function_that_calls_itself(tmp_path):
    function = helper.make_function("own", "Loop", ["a"], ["b"], [helper.make_node("Loop", ["a"], ["b"], domain="own")],
                                    [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)])  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Loop", ["x"], ["y"], domain="own")],
        "g", [helper.make_tensor_value_info("x", 1, [1, 4])], [helper.make_tensor_value_info("y", 1, [1, 4])],
    )  # fmt: skip
    model = helper.make_model(
        graph, functions=[function], opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    )
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError):
        read_graph(tmp_path / "net.onnx")


# Damaged and lying files.


def test_truncated_everywhere(tmp_path):
    path = dense(tmp_path / "net.onnx")
    whole = path.read_bytes()
    for end in range(0, len(whole), 3):
        path.write_bytes(whole[:end])
        with pytest.raises(ToolchainError):
            read_graph(path)


def test_flipped_bytes(tmp_path):
    """Whatever one byte does, the model is read or refused."""
    path = dense(tmp_path / "net.onnx")
    whole = path.read_bytes()
    rng = np.random.default_rng(4)
    for _ in range(400):
        at, flip = int(rng.integers(len(whole))), int(rng.integers(1, 256))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        with contextlib.suppress(ToolchainError):
            read_graph(path)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"onnx", b"PK\x03\x04", b"<html></html>", b"\x80\x04K\x01.", b"\xff" * 100]
)
def test_not_onnx(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError):
        read_graph(tmp_path / "net.onnx")


def with_weights(tmp_path, change, constant=False):
    """`dense` with a changed first weight tensor (as initializer, or in a Constant node)."""
    model = onnx.load(dense(tmp_path / "net.onnx"))
    tensor = model.graph.initializer[0]
    if constant:
        node = helper.make_node("Constant", [], [tensor.name], name="hidden", value=tensor)
        del model.graph.initializer[0]
        model.graph.node.insert(0, node)
        tensor = model.graph.node[0].attribute[0].t
    change(tensor)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "net.onnx"


def lie_dims(*dims):
    def change(tensor):
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def lie_data(data, kind=TensorProto.FLOAT):
    def change(tensor):
        tensor.raw_data = data
        tensor.data_type = kind

    return change


def no_raw(tensor):
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 29)


def text(tensor):
    tensor.ClearField("raw_data")
    tensor.data_type = TensorProto.STRING
    tensor.string_data.extend([b"a"] * 30)


LIES = {
    "negative": lie_dims(-6, -5), "negative one": lie_dims(-1, 5), "huge": lie_dims(2**40, 2**40),
    "wraps to the right size": lie_dims(2**33, 2**33), "huge and empty": lie_dims(2**62, 0), "no rank": lie_dims(),
    "other": lie_dims(5, 7), "one more": lie_dims(6, 5, 1), "short": lie_data(b"\0" * 119),
    "long": lie_data(b"\0" * 124),
    "empty": lie_data(b""), "double": lie_data(b"\0" * 120, TensorProto.DOUBLE), "type 0": lie_data(b"\0" * 120, 0),
    "type 99": lie_data(b"\0" * 120, 99), "bool": lie_data(b"\1" * 30, TensorProto.BOOL), "no raw": no_raw,
    "text": text,
    "raw text": lie_data(b"a" * 30, TensorProto.STRING), "int4": lie_data(b"\1" * 14, TensorProto.INT4),
    "complex": lie_data(b"\0" * 240, TensorProto.COMPLEX64), "float8": lie_data(b"\1" * 29, TensorProto.FLOAT8E4M3FN),
}  # fmt: skip


@pytest.mark.parametrize("constant", [False, True], ids=["initializer", "node"])
@pytest.mark.parametrize("lie", LIES)
def test_lying_tensors(tmp_path, lie, constant):
    begin = time.monotonic()
    path = with_weights(tmp_path, LIES[lie], constant)
    if lie == "bool":
        with contextlib.suppress(ModelError):
            read_graph(path)
    else:
        with pytest.raises(ModelError):
            read_graph(path)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, 1])
def test_weights_that_are_no_numbers(tmp_path, value, index, capsys):
    path = dense(tmp_path / "net.onnx")
    model = onnx.load(path)
    tensor = model.graph.initializer[index]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[1] = value
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="NaN or infinity"):
        read_graph(path)
    assert run("inspect", path) == 2


@pytest.mark.parametrize("scale", [1e38, 1e-38, 1e-45, 0.0, 3.4e38])
def test_extreme_weights_compile_or_are_refused(tmp_path, scale):
    path = dense(tmp_path / "net.onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer[:2]:
        array = np.sign(numpy_helper.to_array(tensor)) * np.float32(scale)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    path.write_bytes(model.SerializeToString())
    x = rows(8, 6)
    try:
        project = compile_model(path, tmp_path / "p", calibrate=x)
    except ToolchainError:
        return
    fast, slow = (load(project.path).simulator(engine).predict_raw(x) for engine in ("fast", "reference"))
    assert np.array_equal(fast, slow)


# External data.


def external(tmp_path, constant=False, **entries):
    def change(tensor):
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)

    return with_weights(tmp_path, change, constant)


@pytest.fixture
def inside(tmp_path):
    """A model's folder with 200 bytes of weights, and a secret beside the folder."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (folder / "w.bin", folder / "sub/w.bin", tmp_path / "secret.bin"):
        place.write_bytes(np.arange(50, dtype=np.float32).tobytes())
    return folder


@pytest.mark.parametrize("constant", [False, True], ids=["initializer", "node"])
@pytest.mark.parametrize("entries", [{"location": "w.bin", "length": 120}, {"location": "sub/w.bin", "offset": 8,
    "length": 120},
                                     {"location": "./w.bin", "length": 120, "checksum": "x"}])  # fmt: skip
def test_external_data_is_read(inside, entries, constant):
    graph = read_graph(external(inside, constant, **entries))
    weights = graph.nodes[0].operator.weights.array
    assert weights.shape == (6, 5)
    assert weights.ravel()[0] == entries.get("offset", 0) / 4


OUTSIDE = {
    "parent": {"location": "../secret.bin", "length": 120},
    "inner parent": {"location": "sub/../../secret.bin", "length": 120},
    "harmless parent": {"location": "sub/../w.bin", "length": 120},
    "absolute": {"location": "/etc/passwd", "length": 120},
    "backslash": {"location": "..\\secret.bin", "length": 120},
    "link": {"location": "link.bin", "length": 120},
    "linked folder": {"location": "linked/secret.bin", "length": 120},
    "hard link": {"location": "hard.bin", "length": 120},
    "folder": {"location": "sub", "length": 120},
    "device": {"location": "/dev/zero", "length": 120},
    "fifo": {"location": "fifo", "length": 120},
    "nothing": {"length": 120},
    "empty": {"location": "", "length": 120},
    "zero": {"location": "w.bin\0/../../secret.bin", "length": 120},
    "dot": {"location": ".", "length": 120},
}
BROKEN = {
    "missing": {"location": "none.bin", "length": 120},
    "file as folder": {"location": "w.bin/x", "length": 120},
    "too short": {"location": "w.bin", "length": 1000},
    "beyond": {"location": "w.bin", "offset": 10**18, "length": 120},
    "end": {"location": "w.bin", "offset": 100, "length": 120},
    "negative": {"location": "w.bin", "offset": -8, "length": 120},
    "negative length": {"location": "w.bin", "length": -120},
    "text": {"location": "w.bin", "offset": "eight"},
    "other size": {"location": "w.bin", "length": 100},
    "long name": {"location": "w" * 5000, "length": 120},
    "huge": {"location": "w.bin", "length": 2**70},
}


@pytest.mark.parametrize("constant", [False, True], ids=["initializer", "node"])
@pytest.mark.parametrize("case", [*OUTSIDE, *BROKEN])
def test_external_data_is_refused(inside, monkeypatch, case, constant):
    monkeypatch.chdir(inside)  # a path that is wrongly taken from the working folder would be found
    (inside / "link.bin").symlink_to(inside.parent / "secret.bin")
    (inside / "linked").symlink_to(inside.parent)
    os.link(inside.parent / "secret.bin", inside / "hard.bin")
    os.mkfifo(inside / "fifo")
    path = external(inside, constant, **(OUTSIDE | BROKEN)[case])
    with pytest.raises(UnsafeModel if case in OUTSIDE else ModelError) as caught:
        read_graph(path)
    assert "checker" not in str(caught.value)
    assert "Errno" not in str(caught.value)


# Operators.


def test_everything_unsupported_is_listed_at_once(tmp_path, capsys):
    m = Model(17)
    m.input("x", 1, 3, 4, 4)
    a = m.add("Atan", "x", name="first thing")
    b = m.add("Conv", a, m.noise(2, 3, 1, 1), name="fine")
    c = m.add("Softmax", b, axis=1, strange=3, name="odd attribute")
    d = m.add("CumSum", c, m.constant(1, dtype=np.int64), name="third thing")
    m.output(m.add("Conv", d, m.add("Relu", d), name="computed kernel"))
    path = m.save(tmp_path / "net.onnx")
    with pytest.raises(UnsupportedOperator) as caught:
        read_graph(path)
    assert run("inspect", path) == 2
    said = capsys.readouterr().err
    for word in ("first thing", "third thing", "strange", "computed kernel"):
        assert word in str(caught.value)
        assert word in said
    assert "fine" not in said
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("opset", [11, 17, 18, 21])
def test_unsupported_beside_other_domains(tmp_path, opset, capsys):
    """Also where the converter gives up: what is on the way to constants is not listed, what is not supported is."""
    m = Model(opset)
    m.input("x", 1, 4)
    m.add("Gelu", "x", name="foreign", domain="com.microsoft")
    m.add("Gather", m.add("Shape", "x", name="shape"), m.constant(0, dtype=np.int64), name="folded")
    m.add("Relu", "foreign", name="fine")
    m.output(m.add("Atan", "fine", name="native"))
    m.output(m.add("Unsqueeze", "folded", m.integers(0)) if opset > 12 else m.add("Unsqueeze", "folded", axes=[0]))
    m.outputs.pop()
    proto = m.proto()
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedOperator) as caught:
        read_graph(tmp_path / "net.onnx")
    assert [problem.split("'")[1] for problem in caught.value.problems] == ["foreign", "native"]
    assert run("inspect", tmp_path / "net.onnx") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("2 unsupported")
    assert len(said) == 3


def test_faults_are_listed_with_what_is_unsupported(tmp_path, capsys):
    m = Model(17)
    m.input("x", 1, 4)
    m.add("Clip", "x", m.constant([2.0, 1.0]), name="two bounds")
    m.add("Clip", "two bounds", m.constant(np.nan), name="no number")
    path = tmp_path / "net.onnx"
    m.output("no number")
    with pytest.raises(ModelError) as caught:
        read_graph(m.save(path))
    assert not isinstance(caught.value, UnsupportedOperator)
    assert len(caught.value.problems) == 2
    m.outputs.clear()
    m.output(m.add("Atan", "no number", name="erf"))
    with pytest.raises(UnsupportedOperator) as caught:
        read_graph(m.save(path))
    for number, word in enumerate(("two bounds", "no number", "erf")):
        assert word in caught.value.problems[number]
    assert run("inspect", path) == 2
    assert capsys.readouterr().err.splitlines()[0].endswith("net: 3 problems")


@pytest.mark.parametrize("claimed", [[3, 3], [5], [5, 5, 1]])
def test_kernel_shape_is_that_of_the_weights(tmp_path, claimed):
    m = Model()
    m.input("x", 1, 2, 8, 8)
    m.output(m.add("Conv", "x", m.noise(3, 2, 5, 5), kernel_shape=claimed))
    with pytest.raises(ModelError, match="kernel_shape"):
        read_graph(m.save(tmp_path / "net.onnx"))


LIMITED = """
import resource, sys
from toolchain.cli import main
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
main(["inspect", sys.argv[1]])
"""


def inspect_in(path, limit):
    """`inspect` in a process of its own with `limit` bytes of memory."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path, str(limit)],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert lines[0].startswith("error: "), done.stderr
    assert all(line.startswith("  ") for line in lines[1:]), done.stderr
    return done.stderr


def bomb(case):
    m = Model(17)
    m.input("x", 1, 4)
    one = {"value": helper.make_tensor("v", TensorProto.FLOAT, [1], [0.25])}
    if case == "ConstantOfShape":
        big = m.add("ConstantOfShape", m.integers(600_000_000), **one)
    elif case == "Expand":
        big = m.add("Expand", m.constant([1.0]), m.integers(60_000, 10_000))
    elif case == "Tile":
        big = m.add("Tile", m.constant(np.zeros(1_000_000)), m.integers(1024))
    elif case == "Range":
        big = m.add("Range", m.constant(0.0), m.constant(6e8), m.constant(1.0))
    elif case == "Pad":
        big = m.add("Pad", m.constant([1.0]), m.integers(0, 600_000_000))
    elif case == "Resize":
        big = m.add("Resize", m.constant([[[1.0]]]), "", "", m.integers(1, 60_000, 10_000), mode="nearest")
    elif case == "Add":
        big = m.add("Add", m.constant(np.zeros((30_000, 1))), m.constant(np.zeros((1, 30_000))))
    else:
        big = m.add("MatMul", m.constant(np.zeros((30_000, 1))), m.constant(np.zeros((1, 30_000))))
    m.output(m.add("Add", "x", m.add("ReduceSum", big, keepdims=0)))
    return m


@pytest.mark.parametrize("case", ["ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Add", "MatMul"])
def test_bombs_of_constants(tmp_path, case):
    """Refused before the array is there, with nothing on stderr beside the error."""
    said = inspect_in(bomb(case).save(tmp_path / "net.onnx"), 2 << 30)
    assert "on constants" in said


def test_constants_are_limited_together(tmp_path, monkeypatch):
    m = Model(17)
    m.input("x", 1, 4)
    for _ in range(4):
        m.output(m.add("Add", "x", m.add("ConstantOfShape", m.integers(1, 4))))
    path = m.save(tmp_path / "net.onnx")
    monkeypatch.setattr(folding, "TOTAL_LIMIT", 64)
    read_graph(path)
    monkeypatch.setattr(folding, "TOTAL_LIMIT", 63)
    with pytest.raises(UnsupportedOperator, match="1 unsupported: ConstantOfShape 'constantofshape6'"):
        read_graph(path)


def test_external_data_is_measured_before_it_is_read(inside, monkeypatch):
    """A large file behind a small tensor costs nothing, nor does one file behind many tensors."""
    with (inside / "w.bin").open("r+b") as file:
        file.truncate(1 << 40)
    tensor = TensorProto(name="t", dims=[2, 3], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("length", str(1 << 40))):
        tensor.external_data.add(key=key, value=value)
    with pytest.raises(ModelError, match="its shape"):
        frontend.read_external(tensor, inside)
    monkeypatch.setattr(frontend, "FILE_LIMIT", 1 << 20)
    m = Model()
    m.input("x", 1, 4)
    for number in range(9):
        tensor = TensorProto(name=f"t{number}", dims=[1 << 15], data_type=TensorProto.FLOAT, data_location=1)
        for key, value in (("location", "w.bin"), ("length", str(1 << 17))):
            tensor.external_data.add(key=key, value=value)
        m.constants.append(tensor)
    m.output(m.add("Relu", "x"))
    with pytest.raises(ModelError, match="more than the"):
        read_graph(m.save(inside / "net.onnx"))
    m.constants.pop()
    read_graph(m.save(inside / "net.onnx"))


def test_unsupported_at_an_old_opset_is_listed_too(tmp_path):
    m = Model(11)
    m.input("x", 1, 4)
    m.add("Atan", "x", name="first thing")
    m.output(m.add("CumSum", "first thing", m.constant(1, dtype=np.int64), name="other thing"))
    with pytest.raises(UnsupportedOperator, match=r"first thing.*other thing"):
        read_graph(m.save(tmp_path / "net.onnx"))


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "made.up", "../x"])
@pytest.mark.parametrize("opset", [11, 17, 21])
def test_custom_domains(tmp_path, domain, opset):
    m = Model(opset)
    m.input("x", 1, 4)
    m.output(m.add("Relu", m.add("Gelu", "x", name="foreign", domain=domain)))
    proto = m.proto()
    proto.opset_import.append(helper.make_opsetid(domain, 1))
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedOperator, match="foreign"):
        read_graph(tmp_path / "net.onnx")


def branch(name, op):
    node = helper.make_node(op, ["x"], [name])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, 1, [1, 4])])


@pytest.mark.parametrize("op", ["If", "Loop"])
def test_subgraphs(tmp_path, op):
    m = Model()
    m.input("x", 1, 4)
    if op == "If":
        m.constant(True, "yes", bool)
        m.inputs.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
        m.input("flag", 1, 1, kind=TensorProto.BOOL)
        m.add("If", "flag", name="choice", then_branch=branch("t", "Relu"), else_branch=branch("e", "Sigmoid"))
    else:
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Relu", ["v"], ["w"])], "body",
            [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, []),
             helper.make_tensor_value_info("v", 1, [1, 4])],
            [helper.make_tensor_value_info("d", 9, []), helper.make_tensor_value_info("w", 1, [1, 4])],
        )  # fmt: skip
        m.input("count", 1, 1, kind=TensorProto.INT64)
        m.add("Loop", "count", "", "x", name="choice", body=body)
    m.output("choice")
    with pytest.raises(UnsupportedOperator, match="choice"):
        read_graph(m.save(tmp_path / "net.onnx"))


def test_external_data_in_a_subgraph_is_not_read(inside, monkeypatch):
    monkeypatch.chdir(inside)
    tensor = numpy_helper.from_array(np.zeros((1, 4), np.float32), "v")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    then = helper.make_graph([helper.make_node("Constant", [], ["t"], value=tensor)], "t", [],
                             [helper.make_tensor_value_info("t", 1, [1, 4])])  # fmt: skip
    m = Model()
    m.input("x", 1, 4)
    m.constant(True, "yes", bool)
    m.add("If", "yes", name="choice", then_branch=then, else_branch=branch("e", "Relu"))
    m.output(m.add("Add", "x", "choice"))
    with pytest.raises(ModelError):
        read_graph(m.save(inside / "net.onnx"))


# Graphs that are none.


def broken(case):
    m = Model()
    m.input("x", 1, 4)
    if case == "cycle":
        m.add("Add", "x", "b", name="a")
        m.output(m.add("Relu", "a", name="b"))
    elif case == "self":
        m.output(m.add("Add", "x", "a", name="a"))
    elif case == "dangling":
        m.output(m.add("Add", "x", "nowhere", name="a"))
    elif case == "no such output":
        m.add("Relu", "x", name="a")
        m.output("b")
    elif case == "output is a constant":
        m.output(m.constant([[1.0, 2, 3, 4]], "c"))
    elif case == "defined twice":
        m.add("Relu", "x", name="a")
        m.output(m.add("Sigmoid", "x", name="second", out="relu0"))
        m.nodes[0].output[0] = "relu0"
    elif case == "defines its input":
        m.output(m.add("Relu", "x", name="r", out="x"))
    elif case == "two inputs of one name":
        m.input("x", 1, 4)
        m.output(m.add("Relu", "x"))
    elif case == "no inputs":
        m.inputs.clear()
        m.output(m.add("Relu", m.constant([[1.0, 2]]), name="a"))
    elif case == "no outputs":
        m.add("Relu", "x")
    elif case == "no inputs of a node":
        m.output(m.add("Relu"))
    elif case == "too many inputs":
        m.output(m.add("Relu", "x", "x"))
    elif case == "empty input":
        m.output(m.add("Relu", ""))
    elif case == "no outputs of a node":
        m.output(m.add("Relu", "x"))
        m.nodes.append(helper.make_node("Relu", ["x"], []))
        m.nodes[0].ClearField("output")
    elif case == "wrong sizes":
        m.output(m.add("Gemm", "x", m.noise(5, 3)))
    elif case == "wrong rank":
        m.output(m.add("Conv", "x", m.noise(2, 4, 3, 3)))
    elif case == "no operator":
        m.output(m.add("", "x"))
    elif case == "wrong attribute type":
        m.output(m.add("Gemm", "x", m.noise(4, 3), transB="yes"))
    elif case == "string axis":
        m.output(m.add("Softmax", "x", axis=[1, 2]))
    return m


CASES = ["cycle", "self", "dangling", "no such output", "output is a constant", "defined twice", "defines its input",
         "two inputs of one name", "no inputs", "no outputs", "no inputs of a node", "too many inputs", "empty input",
         "no outputs of a node", "wrong sizes", "wrong rank", "no operator", "wrong attribute type",
         "string axis"]  # fmt: skip


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("case", CASES)
def test_broken_graphs(tmp_path, case, opset):
    m = broken(case)
    m.opset = opset
    with pytest.raises(ToolchainError):
        read_graph(m.save(tmp_path / "net.onnx"))


def test_nodes_of_one_name(tmp_path):
    """Allowed in ONNX; both layers stay apart."""
    m = Model()
    m.input("x", 1, 4)
    m.add("Gemm", "x", m.noise(4, 4), name="same", out="a")
    m.add("Gemm", "a", m.noise(4, 4), name="same", out="b")
    m.output(m.add("Gemm", "b", m.noise(4, 3), name="a", out="c"))
    path = m.save(tmp_path / "net.onnx")
    graph = read_graph(path)
    assert len({node.layer for node in graph.nodes}) == 3
    x = rows(3, 4)
    a, b, c = (numpy_helper.to_array(tensor) for tensor in m.constants)
    assert np.abs(real(graph, x=x)[0] - x @ a @ b @ c).max() < 1e-5


@pytest.mark.parametrize("case", ["input is output", "twice an output", "chain of names", "unused input"])
def test_odd_but_right_graphs(tmp_path, case):
    """Compiled, simulated, and verified: odd is not wrong."""
    m = Model()
    m.input("x", 1, 4)
    m.add("Gemm", "x", m.noise(4, 3), name="g")
    m.output("g")
    if case == "input is output":
        m.output("x")
    elif case == "twice an output":
        m.output(m.add("Identity", "g", name="again"))
        m.output(m.add("Relu", "g", name="relu"))
    elif case == "unused input":
        m.input("y", 1, 2)
    else:
        m.nodes.clear()
        m.outputs.clear()
        m.add("Gemm", "x", m.noise(4, 3), name="x", out="x.2")
        m.add("Relu", "x.2", name="x.2", out="x/quantize")
        m.output(m.add("Relu", "x/quantize", name="x/requantize", out="x.3"))
    path = m.save(tmp_path / "net.onnx")
    data = {"x": rows(5, 4)} | ({"y": rows(5, 2)} if case == "unused input" else {})
    try:
        project = compile_model(path, tmp_path / "p", calibrate=data)
    except ToolchainError:
        if case not in ("unused input", "input is output"):
            raise
        return
    if case != "chain of names":  # which the hostile names below build
        verify_hls(load(project.path), data)


# Names that reach generated C++, Tcl, Make, JSON and HTML.

NAMES = ["nullptr", "constexpr", "concept", "requires", "co_await", "ap_int", "errno", "NULL", "assert", "stdin",
    "DCT_HLS",
         "int", "x_axis", "frame", "bench", "size_t", "static_cast", "and_eq", "typeid", "std", "INT_MAX", "EOF",
         "a_config", "read_a", "main", "printf"]  # fmt: skip
TEXTS = ['"; system("touch pwned"); //', "*/ #error x /*", "</script><b>", "\\", "${PATH} $(touch pwned) `id`",
    "[exec touch pwned]",
         "}{", "a\\\nb", "naïve 名前 \u202e", "x' \"", "%n%s", "a\tb\r\nc", "??/", "-o", "../../x", "",
         "a" * 400, "é" * 150, "1", "__LINE__", "\u2028\u0085"]  # fmt: skip


@pytest.mark.csim
def test_hostile_names_build_and_agree(tmp_path):
    """Every name is used as layer, value, input, output, and the model's own; one design holds them all."""
    m = Model()
    m.input('in "\n*/ \\', 1, 4)
    m.input("errno", 1, 4)
    x = m.add("Add", 'in "\n*/ \\', "errno", name="a", out="sum")
    for position, name in enumerate([*NAMES, *TEXTS]):
        kind = "Gemm" if position % 4 == 0 else "Relu" if position % 4 < 3 else "LeakyRelu"
        more = [m.noise(4, 4, name=f"w{position}")] if kind == "Gemm" else []
        x = m.add(kind, x, *more, name=name, out=f"{name} {position}")
    m.add("Gemm", x, m.noise(4, 4), name="a_matrix_vector", out="v1")
    m.add("Gemm", "v1", m.noise(4, 4), name="a_matrix_vector_config", out="v2")
    m.add("Gemm", "v2", m.noise(4, 4), name="a_matrix_vector_weights", out="v3")
    m.add("Relu", "v3", name="a_matrix_vector_bias", out="v4")
    m.add("Relu", "v4", name="errno_axis_beat", out='out ";\n*/')
    m.output('out ";\n*/')
    m.output("sum")
    path = m.save(tmp_path / "register.onnx")
    data = {given.name: rows(3, 4, seed=k) for k, given in enumerate(m.inputs)}
    project = compile_model(path, tmp_path / "p", calibrate=data)
    agreement = verify_hls(load(project.path), data)
    assert agreement.values > 0
    assert not list(tmp_path.rglob("pwned"))
    assert run("report", tmp_path / "p", "--html", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text()
    assert "</script>" not in page
    assert "&lt;/script&gt;" in page


@pytest.mark.parametrize(
    "stem", ["int", "1net", "$(id)", "a b", "main", "std", "名前", "nullptr", "-", "x'\"", "ap_int", "a" * 200]
)
def test_hostile_model_names(tmp_path, stem):
    """The top function's name is a legal identifier; nothing of the file's name reaches a generated file unescaped."""
    path = dense(tmp_path / f"{stem}.onnx")
    project = compile_model(path, tmp_path / "p", calibrate=rows(8, 6))
    for file in (project.path / "hls").rglob("*"):
        if file.is_file() and not file.name.endswith(".dat"):
            content = file.read_text()
            for bad in ("$(id)", "'\"", "名前"):
                assert bad not in content, file
