"""Keras configurations that contradict themselves: broken references, loops, settings out of range, names."""

import json

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
from tests.frontends.test_keras import NAMED, NET, NUMBERED
from toolchain.errors import ModelError
from toolchain.frontends.keras import load


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
