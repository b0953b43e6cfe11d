"""The Keras front end on files written by hand and on real ones; see test_keras_differential.py for real Keras."""

import json
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest

from tests.frontends.keras_files import (
    functional,
    keras2_call,
    keras3,
    keras3_call,
    layer,
    sequential,
    write_h5,
    write_json,
    write_keras,
    write_weights,
)
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.keras import load
from toolchain.frontends.keras.weights import snake_case

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
RNG = np.random.default_rng(7)
KERNEL, BIAS = RNG.normal(size=(3, 3, 2, 4)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
MATRIX, OFFSET = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
INPUT = layer("InputLayer", "image", batch_input_shape=[None, 6, 5, 2], sparse=False, ragged=False)
CONV = {"filters": 4, "kernel_size": [3, 3], "strides": [2, 2], "padding": "same", "activation": "relu"}
DENSE = {"units": 3, "use_bias": True, "activation": "softmax", "kernel_regularizer": None}
NET = sequential(INPUT, layer("Conv2D", "c", **CONV), layer("GlobalMaxPooling2D", "g"), layer("Dense", "d", **DENSE))
NAMED = {"image": [], "c": [("kernel", KERNEL), ("bias", BIAS)], "g": [], "d": [("kernel", MATRIX), ("bias", OFFSET)]}
NUMBERED = {"conv2d": [KERNEL, BIAS], "global_max_pooling2d": [], "dense": [MATRIX, OFFSET]}
X = RNG.normal(size=(2, 6, 5, 2)).astype(np.float32)


def run(model, *inputs):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [tensor.name for tensor in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def expected(x):
    """NET in plain numpy, TensorFlow's padding: rows 0 before and 1 after (6, stride 2), columns 1 and 1 (5)."""
    padded = np.pad(x, ((0, 0), (0, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    convolved = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, KERNEL) + BIAS, 0)
    logits = convolved.max(axis=(1, 2)) @ MATRIX + OFFSET
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def one_layer(tmp_path, kind, *arrays, shape=(None, 6, 5, 2), **config):
    """A Keras 3 file of one layer between an input and nothing."""
    net = sequential(layer("InputLayer", "x", batch_input_shape=list(shape)), layer(kind, "y", **config))
    return write_keras(tmp_path / "one.keras", net, {snake_case(kind): arrays})


WRITERS = {
    "keras2_h5": lambda folder: write_h5(folder / "m.h5", NET, NAMED),
    "keras2_json": lambda folder: write_json(folder / "m.json", NET, NAMED),
    "keras2_json_list": lambda folder: write_json(folder / "m.json", {**NET, "config": NET["config"]["layers"]}, NAMED),
    "keras3_json_names": lambda folder: write_json(folder / "m.json", keras3(NET), NAMED, ".weights.h5", "3.0.5"),
    "json_h5": lambda folder: write_json(folder / "m.json", NET, NAMED, ".h5"),
    "keras3": lambda folder: write_keras(folder / "m.keras", keras3(NET), NUMBERED),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_formats(kind, tmp_path):
    model = load(WRITERS[kind](tmp_path))
    assert [
        (i.name, [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]) for i in model.graph.input
    ] == [("image", ["N", 6, 5, 2])]
    assert [node.name for node in model.graph.node] == [
        "c/to_channels_first", "c", "c/to_channels_last", "c/relu", "g/to_channels_first", "g", "g/flatten", "d",
        "d/softmax",
    ]  # fmt: skip
    assert [output.name for output in model.graph.output] == ["d"]
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    np.testing.assert_allclose(run(model, X)[0], expected(X), atol=1e-5)


def test_explicit_weights(tmp_path):
    path = write_json(tmp_path / "m.json", NET, NAMED)
    other = (tmp_path / "m_weights.h5").rename(tmp_path / "elsewhere.h5")
    with pytest.raises(ModelError, match=r"no weights.*--weights"):
        load(path)
    np.testing.assert_allclose(run(load(path, other), X)[0], expected(X), atol=1e-5)


def test_weights_of_a_full_model_beside_the_architecture(tmp_path):
    write_h5(tmp_path / "m.h5", NET, NAMED)
    (tmp_path / "m.json").write_text(json.dumps(NET))
    np.testing.assert_allclose(run(load(tmp_path / "m.json"), X)[0], expected(X), atol=1e-5)


def test_weights_of_another_copy_are_paired_by_position(tmp_path):
    path = write_json(tmp_path / "m.json", NET, {"c_7": NAMED["c"], "p": [], "d_9": NAMED["d"]})
    np.testing.assert_allclose(run(load(path), X)[0], expected(X), atol=1e-5)


def test_names_in_parts(tmp_path):
    """Keras cuts lists of names past 64 KiB into name0, name1, ..."""
    path = write_json(tmp_path / "m.json", NET, NAMED)
    with h5py.File(tmp_path / "m_weights.h5", "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:2], names[2:]
    np.testing.assert_allclose(run(load(path), X)[0], expected(X), atol=1e-5)


@pytest.mark.parametrize("call", [keras2_call, keras3_call])
def test_functional(call, tmp_path):
    """Two inputs, a layer called twice, two outputs, one of them passing through a Dropout."""
    net = functional(
        layer("InputLayer", "a", [], batch_input_shape=[None, 4]),
        layer("InputLayer", "b", [], batch_input_shape=[None, 4]),
        layer("Dense", "d", [call("a"), call("b")], units=3, activation="relu"),
        layer("Dropout", "drop", [call("d")], rate=0.5),
        layer("Concatenate", "both", [[["d", 0, 0, {}], ["d", 1, 0, {}]]], axis=-1),
        inputs=["a", "b"],
        outputs=["both", "drop"],
    )
    model = load(write_h5(tmp_path / "m.h5", net, {"d": NAMED["d"]}))
    a, b = RNG.normal(size=(2, 5, 4)).astype(np.float32)
    first, second = (np.maximum(x @ MATRIX + OFFSET, 0) for x in (a, b))
    both, drop = run(model, a, b)
    np.testing.assert_allclose(both, np.concatenate([first, second], axis=-1), atol=1e-5)
    np.testing.assert_allclose(drop, first, atol=1e-5)
    assert [node.name for node in model.graph.node] == ["d", "d/relu", "d/call_1", "d/call_1/relu", "both", "drop"]
    assert [output.name for output in model.graph.output] == ["both", "drop"]
    assert len(model.graph.initializer) == 2


def test_nested_models_count_calls_from_one_in_keras_2(tmp_path):
    inner = sequential(
        layer("InputLayer", "i", batch_input_shape=[None, 4]), layer("Dense", "d", units=4), name="inner"
    )
    square = RNG.normal(size=(4, 4)).astype(np.float32)
    net = functional(
        layer("InputLayer", "a", [], batch_input_shape=[None, 4]),
        {**inner, "name": "inner", "inbound_nodes": [keras2_call("a"), [["inner", 1, 0, {}]]]},
        inputs=["a"],
        outputs=["a"],
    )
    net["config"]["output_layers"] = [["inner", 2, 0]]
    weights = {"a": [], "inner": [("d/kernel", square), ("d/bias", BIAS)]}
    model = load(write_h5(tmp_path / "m.h5", net, weights))
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(model, x)[0], (x @ square + BIAS) @ square + BIAS, rtol=1e-4, atol=1e-4)
    assert [node.name for node in model.graph.node] == ["inner/d", "inner/call_1/d", "inner"]


@pytest.mark.parametrize("version", ["2.15.0", "3.1.0"])
def test_hard_sigmoid_depends_on_the_version(version, tmp_path):
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 3]), layer("Activation", "y", activation="hard_sigmoid")
    )
    x = np.linspace(-4, 4, 30, dtype=np.float32).reshape(10, 3)
    wanted = np.clip(0.2 * x + 0.5, 0, 1) if version[0] == "2" else np.clip(x + 3, 0, 6) / 6
    np.testing.assert_allclose(run(load(write_h5(tmp_path / "m.h5", net, {}, version)), x)[0], wanted, atol=1e-6)


def test_depthwise_order(tmp_path):
    """Output channel = input channel * multiplier + m."""
    kernel = RNG.normal(size=(1, 1, 2, 3)).astype(np.float32)
    path = one_layer(tmp_path, "DepthwiseConv2D", kernel, kernel_size=[1, 1], depth_multiplier=3, use_bias=False)
    wanted = (X[..., :, None] * kernel[0, 0]).reshape(2, 6, 5, 6)
    np.testing.assert_allclose(run(load(path), X)[0], wanted, atol=1e-6)


def test_average_pool_same_does_not_count_padding(tmp_path):
    path = one_layer(tmp_path, "AveragePooling2D", pool_size=[2, 2], strides=[2, 2], padding="same")
    np.testing.assert_allclose(run(load(path), X)[0][:, 0, 2], X[:, :2, 4].mean(axis=1), atol=1e-6)


def test_batch_normalization_without_scale(tmp_path):
    beta, mean, variance = RNG.normal(size=(3, 2)).astype(np.float32)
    variance = variance**2
    path = one_layer(tmp_path, "BatchNormalization", beta, mean, variance, axis=[3], epsilon=0.01, scale=False)
    np.testing.assert_allclose(run(load(path), X)[0], (X - mean) / np.sqrt(variance + 0.01) + beta, atol=1e-5)


def test_flatten_keeps_the_channels_last_order(tmp_path):
    path = one_layer(tmp_path, "Flatten", data_format="channels_first", shape=(None, 2, 3, 4))
    x = RNG.normal(size=(2, 2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(load(path), x)[0], x.transpose(0, 2, 3, 1).reshape(2, -1))


def test_free_dimensions(tmp_path):
    path = one_layer(tmp_path, "ReLU", shape=(None, None, None, 2))
    with pytest.raises(ModelError, match=r"free dimensions.*--input-shape x=1,224,224,2"):
        load(path)
    assert run(load(path, input_shapes={"x": (1, 6, 5, 2)}), X)[0].shape == X.shape
    for shape in ((1, 6, 5, 3), (1, 6, 5), (1,), (1, 0, 5, 2)):
        with pytest.raises(ModelError):
            load(path, input_shapes={"x": shape})
    with pytest.raises(ModelError, match=r"no input 'z'.*inputs are x"):
        load(path, input_shapes={"z": (1, 6, 5, 2)})


def test_sequential_without_input(tmp_path):
    net = sequential(layer("Dense", "d", units=3))
    path = write_h5(tmp_path / "m.h5", net, {"d": NAMED["d"]})
    with pytest.raises(ModelError, match="--input-shape d_input="):
        load(path)
    model = load(path, input_shapes={"d_input": (1, 4)})
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(model, x)[0], x @ MATRIX + OFFSET, atol=1e-5)


def test_fixed_batch_counts_as_free(tmp_path):
    path = one_layer(tmp_path, "ReLU", shape=(16, 6, 5, 2))
    assert run(load(path), X)[0].shape == X.shape


def test_all_problems_at_once(tmp_path):
    net = sequential(
        INPUT,
        layer("Conv2D", "c", **{**CONV, "padding": "reflect", "activation": "celu"}, twist=1),
        layer("Lambda", "l", function="cos"),
        sequential(layer("LSTM", "r", units=3), layer("QLSTM", "q", units=3), name="inner"),
        layer("Dense", "h", units=3, dtype="float16"),
        layer("UpSampling2D", "u", interpolation="bilinear"),
        {**layer("Dense", "f", units=3), "module": "mine", "registered_name": "mine>Dense"},
    )
    with pytest.raises(UnsupportedOperator) as caught:
        load(write_h5(tmp_path / "m.h5", net, NAMED))
    problems = caught.value.problems
    wanted = [
        ("c", "Conv2D", "padding"), ("c", "Conv2D", "activation"), ("c", "Conv2D", "twist"), ("l", "Lambda", "class"),
        ("inner/r", "LSTM", "class"), ("inner/q", "QLSTM", "class"), ("h", "Dense", "dtype"),
        ("u", "UpSampling2D", "interpolation"), ("f", "Dense", "class"),
    ]  # fmt: skip
    assert len(problems) == len(wanted)
    for name, kind, attribute in wanted:
        found = [text for text in problems if text.startswith(f"{name} ({kind}): ") and attribute in text]
        assert found, (name, attribute)
        assert found[0] in str(caught.value)
    assert "export the model to QONNX" in str(caught.value)


def test_training_behaviour_is_refused(tmp_path):
    net = functional(
        layer("InputLayer", "x", [], batch_input_shape=[None, 4]),
        layer("Dropout", "d", [[["x", 0, 0, {"training": True}]]], rate=0.5),
        inputs=["x"],
        outputs=["d"],
    )
    with pytest.raises(UnsupportedOperator, match="training"):
        load(write_h5(tmp_path / "m.h5", net, {}))


def test_weights_are_a_function_of_names_not_of_order(tmp_path):
    """A weight file whose groups stand in another order than the model's layers."""
    path = write_json(tmp_path / "m.json", NET, NAMED)
    with h5py.File(tmp_path / "m_weights.h5", "w") as file:
        write_weights(file, dict(reversed(NAMED.items())))
    np.testing.assert_allclose(run(load(path), X)[0], expected(X), atol=1e-5)


def real(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not here")
    return DATA / name


@pytest.mark.optional
def test_resnet8():
    model, data = load(real("mlperf_tiny/ic_resnet8.h5")), np.load(real("mlperf_tiny/ic01.npz"))
    assert (run(model, data["x"].astype(np.float32))[0].argmax(axis=1) == data["y"]).mean() == 0.86


@pytest.mark.optional
def test_mnist():
    model, data = load(real("mnist/KERAS_mnist_mlp.json")), np.load(real("mnist/test.npz"))
    x = data["x"].reshape(len(data["x"]), -1).astype(np.float32) / 255
    assert (run(model, x)[0].argmax(axis=1) == data["y"]).mean() == pytest.approx(0.9815, abs=0.002)


@pytest.mark.optional
@pytest.mark.parametrize("name", ["KERAS_3layer", "KERAS_3layer_batch_norm", "KERAS_conv2d_model"])
def test_hls4ml_examples(name):
    model = load(real(f"hls4ml/{name}.json"))
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    output = run(model, RNG.normal(size=(4, *shape)).astype(np.float32))[0]
    np.testing.assert_allclose(output.sum(axis=-1), 1, atol=1e-5)
