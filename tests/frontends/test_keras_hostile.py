"""Keras files that lie, break or attack: one clear error, nothing executed, nothing large allocated."""

import contextlib
import json
import os
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from tests.frontends.keras_files import (
    functional,
    keras2_call,
    layer,
    numbered,
    sequential,
    write_h5,
    write_json,
    write_keras,
)
from tests.frontends.test_keras import BIAS, KERNEL, MATRIX, NAMED, NET, NUMBERED, OFFSET
from toolchain.errors import ModelError, ToolchainError, UnsafeModel, UnsupportedOperator
from toolchain.frontends.keras import load

DENSE = sequential(layer("InputLayer", "x", batch_input_shape=[None, 4]), layer("Dense", "d", units=3))


def with_kernel(tmp_path, make, config=DENSE):
    """A model whose `d/kernel` is created by `make(group, name)`."""
    path = write_h5(tmp_path / "m.h5", config, {"x": [], "d": [("kernel", MATRIX), ("bias", OFFSET)]})
    with h5py.File(path, "a") as file:
        group = file["model_weights/d/d"]
        del group["kernel:0"]
        make(group, "kernel:0")
    return path


@pytest.mark.parametrize("write", [
    lambda folder: write_h5(folder / "m.h5", NET, NAMED),
    lambda folder: write_keras(folder / "m.keras", NET, NUMBERED),
    lambda folder: write_keras(folder / "m.keras", NET, NUMBERED, compression=zipfile.ZIP_DEFLATED),
    lambda folder: write_json(folder / "m.json", NET, NAMED),
], ids=["h5", "keras", "deflated", "json"])  # fmt: skip
def test_damage(write, tmp_path):
    """Cut anywhere, or with bytes changed, a file loads or gives one of our errors."""
    path = write(tmp_path)
    whole, rng, outcomes = path.read_bytes(), np.random.default_rng(11), []
    damaged = [whole[: len(whole) * part // 12] for part in range(12)]
    for count in [1, 4, 64] * 30:
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(0, len(content), count)] = rng.integers(0, 256, count)
        damaged.append(content.tobytes())
    for content in damaged:
        path.write_bytes(content)
        try:
            load(path)
            outcomes.append(None)
        except ToolchainError as error:
            outcomes.append(str(error))
    assert all(outcomes[:12])
    assert sum(outcome is not None for outcome in outcomes) > 30


def test_damaged_weights(tmp_path):
    path = write_json(tmp_path / "m.json", NET, NAMED)
    weights = tmp_path / "m_weights.h5"
    whole, rng = weights.read_bytes(), np.random.default_rng(12)
    for count in [1, 8, 128] * 30:
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(0, len(content), count)] = rng.integers(0, 256, count)
        weights.write_bytes(content.tobytes())
        with contextlib.suppress(ToolchainError):
            load(path)


def test_not_a_model(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "text.json").write_bytes(b"\xff\xfe{}")
    for name in (
        "missing.h5",
        "folder.keras",
        "pipe.h5",
        "text.h5",
        "list.json",
        "empty.json",
        "text.json",
        "nul\0.h5",
    ):
        with pytest.raises(ModelError):
            load(tmp_path / name)


def test_weights_without_architecture(tmp_path):
    write_json(tmp_path / "m.json", NET, NAMED)
    with pytest.raises(ModelError, match="no model_config"):
        load(tmp_path / "m_weights.h5")


@pytest.mark.parametrize("name", ["../escape.json", "/etc/passwd", "a/../../b", "C:\\x", "..\\x"])
def test_archive_paths(name, tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, NUMBERED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(UnsafeModel, match="outside itself"):
        load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_with_a_name_twice(tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, NUMBERED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UnsafeModel, match="twice"):
        load(path)


def test_archive_without_a_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path / "m.keras")


def test_archive_with_sharded_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, content in (("config.json", json.dumps(NET)), ("metadata.json", "{}"), ("model.weights.json", "{}")):
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="shards"):
        load(tmp_path / "m.keras")


def test_archive_bomb(tmp_path):
    """A hundred megabytes of zeros from a hundred kilobytes: refused by the declared size."""
    path = tmp_path / "m.keras"
    write_keras(path, NET, bytes(100 << 20), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeModel, match="declares 104857600 bytes"):
        load(path)


def test_archive_that_declares_too_much(tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, NUMBERED)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"model.weights.h5") - 46
    content[entry + 24 : entry + 28] = (0xF0000000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UnsafeModel, match="declares"):
        load(path)


def test_archive_that_declares_too_little(tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, NUMBERED, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"model.weights.h5") - 46
    content[entry + 24 : entry + 28] = (64).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load(path)


@pytest.mark.parametrize(
    "text", ['{"a":' * 3000 + "1" + "}" * 3000, "[" * 100_000, '{"a":' + "[" * 200 + "]" * 200 + "}"]
)
def test_nesting(text, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ModelError, match=r"nested|JSON"):
        load(tmp_path / "m.json")


@pytest.mark.parametrize(
    "text", ['{"a": ' + "9" * 10_000 + "}", '{"a": 1, "a": 2}', '{"a": "' + "x" * 100_000 + '"}'], ids=range(3)
)
def test_json_extent(text, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ModelError):
        load(tmp_path / "m.json")


def test_links(tmp_path):
    """A downloaded folder must not make us read another file."""
    path = write_json(tmp_path / "m.json", NET, NAMED)
    weights = tmp_path / "m_weights.h5"
    elsewhere = weights.rename(tmp_path / "elsewhere")
    for link in (weights.symlink_to, weights.hardlink_to):
        link(elsewhere)
        with pytest.raises(UnsafeModel, match="links are not followed"):
            load(path)
        weights.unlink()


def external_link(group, name):
    group[name] = h5py.ExternalLink("/etc/hostname", "/x")


def soft_link(group, name):
    group["other"] = MATRIX
    group[name] = h5py.SoftLink("other")


def external_storage(group, name):
    group.create_dataset(name, (4, 3), "f4", external=[("/etc/passwd", 0, 48)])


def virtual(group, name):
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4, 3))
    group.create_virtual_dataset(name, layout)


def objects(group, name):
    group.create_dataset(name, (4, 3), h5py.string_dtype())


def references(group, name):
    group.create_dataset(name, (4, 3), h5py.ref_dtype)


def compound(group, name):
    group.create_dataset(name, (4, 3), np.dtype([("a", "f4")]))


def unallocated(group, name):
    group.create_dataset(name, (4, 3), "f4")


@pytest.mark.parametrize(
    "make", [external_link, soft_link, external_storage, virtual, objects, references, compound, unallocated]
)
def test_tensors_of_another_kind(make, tmp_path):
    with pytest.raises(UnsafeModel):
        load(with_kernel(tmp_path, make))


def test_a_group_in_place_of_a_tensor(tmp_path):
    with pytest.raises(ModelError, match="no such tensor"):
        load(with_kernel(tmp_path, lambda group, name: group.create_group(name)))


@pytest.mark.parametrize("name", ["../../x", "/model_weights/d/d/bias:0", "d//kernel:0", ""])
def test_weight_names_are_no_paths(name, tmp_path):
    path = write_h5(tmp_path / "m.h5", DENSE, {"x": [], "d": [("kernel", MATRIX), ("bias", OFFSET)]})
    with h5py.File(path, "a") as file:
        file["model_weights/d"].attrs["weight_names"] = np.array([name.encode(), b"d/bias:0"], "S64")
    with pytest.raises(UnsafeModel, match="the weights name the path"):
        load(path)


@pytest.mark.parametrize(("rows", "chunks"), [(1 << 40, True), (1 << 27, True), (1 << 27, None)])
def test_a_tensor_declared_large(rows, chunks, tmp_path):
    """The configuration asks for the same size; the file does not hold it."""
    config = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, min(rows, 1 << 30)]), layer("Dense", "d", units=3)
    )
    make = lambda group, name: group.create_dataset(name, (min(rows, 1 << 30), 3), "f4", chunks=chunks)  # noqa: E731
    path = with_kernel(tmp_path, make, config)
    tracemalloc.start()
    with pytest.raises(UnsafeModel, match=r"the file holds|larger than"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_weights_must_be_finite(value, tmp_path):
    broken = KERNEL.astype(np.float64)
    broken[1, 2, 0, 3] = value
    with pytest.raises(ModelError, match=r"c/kernel: .*\(1, 2, 0, 3\)"):
        load(write_h5(tmp_path / "m.h5", NET, {**NAMED, "c": [("kernel", broken), ("bias", BIAS)]}))


@pytest.mark.parametrize("shape", [(3, 3, 4, 2), (3, 3, 2, 5), (72,), ()])
def test_weight_shapes(shape, tmp_path):
    with pytest.raises(ModelError, match=r"c/kernel: the stored shape is .* asks for \(3, 3, 2, 4\)"):
        load(write_keras(tmp_path / "m.keras", NET, {**NUMBERED, "conv2d": [np.zeros(shape, np.float32), BIAS]}))


def test_number_of_weights(tmp_path):
    for arrays in ([KERNEL], [KERNEL, BIAS, BIAS], []):
        with pytest.raises(ModelError, match=r"c: \d weight tensors are stored"):
            load(write_keras(tmp_path / "m.keras", NET, {**NUMBERED, "conv2d": arrays}))
    with pytest.raises(ModelError, match="weights are for 1 layers"):
        load(write_h5(tmp_path / "m.h5", NET, {"d": NAMED["d"]}))


def test_negative_variance(tmp_path):
    net = sequential(layer("InputLayer", "x", batch_input_shape=[None, 2]), layer("BatchNormalization", "y", axis=[1]))
    arrays = [np.array([1, -1], np.float32)] * 4
    with pytest.raises(ModelError, match="not positive"):
        load(write_keras(tmp_path / "m.keras", net, {"batch_normalization": arrays}))


def test_lambda_is_never_run(tmp_path):
    """The payload is what a Keras 2 Lambda carries: marshalled code. Here it is not even decoded."""
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 4]),
        layer("Lambda", "l", function=["4wEAAAA=\n", None, None], function_type="lambda", module="os"),
    )
    with pytest.raises(UnsupportedOperator, match="never executed"):
        load(write_h5(tmp_path / "m.h5", net, {}))


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "x" * 300, 7, None, "a\x1b[2J"])
def test_names(name, tmp_path):
    net = sequential(layer("InputLayer", "x", batch_input_shape=[None, 4]), layer("ReLU", name))
    with pytest.raises(ModelError, match="is not a name"):
        load(write_json(tmp_path / "m.json", net, {}))


def test_names_that_clash_with_parts(tmp_path):
    """Names of nodes and values stay unique."""
    inputs = layer("InputLayer", "d/relu", [], batch_input_shape=[None, 4])
    net = functional(
        inputs,
        layer("Dense", "d", [keras2_call("d/relu")], units=3, activation="relu"),
        layer("ReLU", "d/relu/output", [keras2_call("d")]),
        inputs=["d/relu"],
        outputs=["d/relu", "d", "d/relu/output"],
    )
    model = load(write_h5(tmp_path / "m.h5", net, {"d": NAMED["d"]}))
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    assert len({output.name for output in model.graph.output}) == 3


def doubling(depth):
    """A model that calls a model twice that calls a model twice ..."""
    inner = layer("ReLU", "r", [keras2_call("i")])
    for level in range(depth):
        calls = [keras2_call("i"), [[f"r{level}" if level else "r", 1 if level else 0, 0, {}]]]
        name = f"r{level}" if level else "r"
        last = [name, 2 if level else 1, 0]
        net = functional(layer("InputLayer", "i", [], batch_input_shape=[None, 4]),
                         {**inner, "name": name, "inbound_nodes": calls}, inputs=["i"], outputs=["i"],
                         name=f"r{level + 1}")  # fmt: skip
        net["config"]["output_layers"] = [last]
        inner = {**net, "name": f"r{level + 1}"}
    return net


def test_calls_that_double_at_every_level(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps(doubling(3)))
    assert len(load(tmp_path / "m.json").graph.node) == 9  # 2^3 calls and the name of the output
    (tmp_path / "m.json").write_text(json.dumps(doubling(40)))
    with pytest.raises(ModelError, match="nested deeper"):
        load(tmp_path / "m.json")


def test_many_calls_of_a_nested_chain(tmp_path):
    """Three levels of a hundred calls each would be a million nodes."""
    inner = layer("ReLU", "r")
    for level in range(3):
        first = 1 if level else 0
        calls = [keras2_call("i")] + [[[inner["config"]["name"], first + i, 0, {}]] for i in range(99)]
        name = inner["config"]["name"]
        net = functional(layer("InputLayer", "i", [], batch_input_shape=[None, 4]),
                         {**inner, "name": name, "inbound_nodes": calls}, inputs=["i"], outputs=["i"],
                         name=f"m{level}")  # fmt: skip
        net["config"]["output_layers"] = [[name, first + 99, 0]]
        inner = net
    (tmp_path / "m.json").write_text(json.dumps(net))
    with pytest.raises(ModelError, match="more than 100000 operators"):
        load(tmp_path / "m.json")


@pytest.mark.parametrize(
    "change",
    [
        {"input_layers": [["zz", 0, 0]]},
        {"output_layers": [["zz", 0, 0]]},
        {"output_layers": [["r", 5, 0]]},
        {"output_layers": [["r", 0, 1]]},
        {"output_layers": []},
        {"output_layers": [["r", -1, 0]]},
        {"layers": []},
        {"layers": [7]},
        {"layers": None},
        {"extra": 1},
    ],
)
def test_broken_references(change, tmp_path):
    net = functional(
        layer("InputLayer", "i", [], batch_input_shape=[None, 4]), layer("ReLU", "r", [keras2_call("i")]),
        inputs=["i"], outputs=["r"],
    )  # fmt: skip
    net["config"] |= change
    (tmp_path / "m.json").write_text(json.dumps(net))
    with pytest.raises(ModelError):
        load(tmp_path / "m.json")


def test_a_loop(tmp_path):
    net = functional(
        layer("InputLayer", "i", [], batch_input_shape=[None, 4]),
        layer("Add", "a", [keras2_call("i", "b")]), layer("ReLU", "b", [keras2_call("a")]),
        inputs=["i"], outputs=["b"],
    )  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(net))
    with pytest.raises(ModelError, match="never computed"):
        load(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Conv2D", {"filters": 0, "kernel_size": [3, 3]}),
        ("Conv2D", {"filters": 2.5, "kernel_size": [3, 3]}),
        ("Conv2D", {"filters": True, "kernel_size": [3, 3]}),
        ("Conv2D", {"filters": 10**30, "kernel_size": [3, 3]}),
        ("Conv2D", {"filters": 2, "kernel_size": [3]}),
        ("Conv2D", {"filters": 2, "kernel_size": [9, 9]}),
        ("Conv2D", {"filters": 2, "kernel_size": [3, 3], "strides": [2, 2], "dilation_rate": [2, 2]}),
        ("Conv2D", {"filters": 4, "kernel_size": [3, 3], "groups": 3}),
        ("Conv2D", {"filters": 2, "kernel_size": [3, 3], "padding": ["same"]}),
        ("Conv2D", {"kernel_size": [3, 3]}),
        ("MaxPooling2D", {"pool_size": [1 << 30, 1], "padding": "same"}),
        ("Dense", {"units": 3, "activation": {"class_name": "function", "config": "evil", "module": "builtins"}}),
        ("ReLU", {"max_value": float("nan")}),
        ("ReLU", {"negative_slope": float("inf")}),
        ("BatchNormalization", {"axis": [1, 2]}),
        ("BatchNormalization", {"axis": 0}),
        ("BatchNormalization", {"axis": 9}),
        ("BatchNormalization", {"epsilon": -1}),
        ("Reshape", {"target_shape": [7, -1]}),
        ("Reshape", {"target_shape": [-1, -1]}),
        ("Reshape", {"target_shape": [0]}),
        ("Permute", {"dims": [1, 1, 2]}),
        ("Permute", {"dims": [2, 1]}),
        ("ZeroPadding2D", {"padding": [[1, -1], [0, 0]]}),
        ("ZeroPadding2D", {"padding": [[1, 2, 3], [0, 0]]}),
        ("Cropping2D", {"cropping": [[3, 3], [0, 0]]}),
        ("UpSampling2D", {"size": [1 << 30, 1 << 30]}),
        ("Softmax", {"axis": [1, 2]}),
        ("Softmax", {"axis": 0}),
        ("Add", {}),
        ("Conv1D", {"filters": 2, "kernel_size": [3]}),
        ("RepeatVector", {"n": 3}),
        ("Normalization", {"mean": [1.0, 2.0, 3.0], "variance": [1.0, 2.0, 3.0]}),
        ("Rescaling", {"scale": [1.0, 2.0, 3.0]}),
        ("Rescaling", {"scale": "2"}),
    ],
)
def test_settings_out_of_range(kind, config, tmp_path):
    net = sequential(layer("InputLayer", "x", batch_input_shape=[None, 6, 5, 2]), layer(kind, "y", **config))
    path = write_keras(tmp_path / "m.keras", net, {})
    with pytest.raises(ModelError) as caught:
        load(path)
    assert "y" in str(caught.value)


def test_version_that_is_no_version(tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, numbered(NUMBERED), version=["3"])
    assert load(path).graph.node
