"""The Keras front end against real Keras 3 and Keras 2: random models and weights, outputs through ONNX Runtime.

Floating point on both sides, hence the one place of this project where a tolerance is right. Skipped without
TensorFlow; Keras 2 is `tf_keras`.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.frontends.keras_files import keras3, write_h5, write_json, write_keras
from tests.frontends.test_keras import NAMED, NET, NUMBERED, X, expected
from toolchain.frontends.keras import load

pytestmark = pytest.mark.optional
SEED = 2025
TOLERANCE = 1e-4


def stack(*make: Any, shape: tuple[int, ...] = (9, 7, 4)) -> Any:
    """A Sequential model of the layers that the functions in `make` give."""
    return lambda k, L: k.Sequential([k.Input(shape), *(layer(L) for layer in make)])


def graph(build: Any, *shapes: tuple[int, ...]) -> Any:
    """A Functional model: `build(k, L, *inputs)` gives its outputs."""

    def make(k, L):
        inputs = [k.Input(shape) for shape in shapes or ((9, 7, 4),)]
        return k.Model(inputs, build(k, L, *inputs))

    return make


def nested(k, L, x):
    """A Sequential and a Functional model inside, the latter called twice, and a frozen layer."""
    block = k.Sequential([k.Input((9, 7, 4)), L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.ReLU()])
    i = k.Input((9, 7, 4))
    h = L.BatchNormalization(trainable=False)(L.DepthwiseConv2D(3, padding="same")(i))
    twice = k.Model(i, [L.Add()([h, i]), L.Multiply()([h, i])])
    a, _ = twice(block(x))
    b, c = twice(a)
    return [L.Dense(3)(L.Flatten()(b)), c]


def frozen(k, L, x, same_names=False):
    """Nested models, partly frozen, nested again."""

    def block(name):
        d, b, e = "dbe" if same_names else [f"{name}_{part}" for part in "dbe"]
        layers = [L.Dense(4, name=d), L.BatchNormalization(name=b, trainable=False), L.Dense(4, name=e)]
        return k.Sequential([k.Input((9, 7, 4)), *layers], name=name)

    inner = k.Sequential([k.Input((9, 7, 4)), block("p"), L.BatchNormalization(), block("q")], name="inner")
    still = k.Sequential([k.Input((9, 7, 4)), L.BatchNormalization(), L.Dense(4), block("r")], name="still")
    still.trainable = False
    return still(inner(x))


def sequential_first(k, L):
    """A Sequential model whose first layer is one, too, and has the input."""
    inner = k.Sequential([k.Input((9, 7, 4)), L.Conv2D(3, 2), L.BatchNormalization()])
    model = k.Sequential([inner, L.Flatten(), L.Dense(2)])
    model.build((None, 9, 7, 4))
    return model


def nested_output(k, L, x):
    """A Functional model whose calls are both used inside and given out."""
    i = k.Input((9, 7, 4))
    inner = k.Model(i, L.Conv2D(4, 3, padding="same", activation="relu")(i))
    first = inner(x)
    second = inner(first)
    return [second, first]


def residual(k, L, x):
    """A residual branch, with names that clash with parts of other layers."""
    y = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="a")(x)
    y = L.Activation("relu", name="a.relu")(L.BatchNormalization(scale=False)(y))
    z = L.Conv2D(8, 1, strides=2, padding="same")(x)
    return L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(L.ReLU()(L.Add()([y, z]))))


def shared(k, L, x):
    """One layer called three times."""
    conv = L.Conv2D(4, 3, padding="same", activation="tanh")
    return conv(conv(conv(x)))


CASES: dict[str, Any] = {
    "residual": graph(residual),
    "shared": graph(shared),
    "nested": graph(nested),
    "nested_output": graph(nested_output),
    "frozen": graph(frozen),
    "sequential_first": sequential_first,
    "two_inputs": graph(
        lambda k, L, a, b: L.Dense(3)(L.Concatenate()([a, L.Dense(4, use_bias=False)(b)])), (5,), (7,)
    ),
    "passed_through": graph(lambda k, L, x: [x, L.Dropout(0.5)(x), L.ReLU()(x)]),
    "same_output_twice": graph(lambda k, L, x: [(y := L.ReLU()(x)), y]),
    "merge": graph(
        lambda k, L, x: [
            L.Add()([x, (y := L.Conv2D(4, 1)(x)), (z := L.Conv2D(4, 3, padding="same")(x))]),
            L.Subtract()([x, y]),
            L.Multiply()([x, y, z]),
            L.Average()([x, y, z]),
            L.Maximum()([x, y, z]),
            L.Minimum()([x, y]),
            L.Concatenate(axis=1)([x, y]),
            L.Concatenate(axis=-2)([x, y, z]),
            L.Add()([x, L.GlobalAveragePooling2D(keepdims=True)(x)]),
        ]
    ),
    "merge_ranks": graph(lambda k, L, x: L.Multiply()([x, L.Dense(4)(L.GlobalMaxPooling2D()(x))])),
    "dense_rank_4": stack(lambda L: L.Dense(6, activation="relu"), lambda L: L.Dense(2, use_bias=False)),
    "separable": stack(
        lambda L: L.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2, activation="relu"),
        lambda L: L.SeparableConv2D(3, 2, dilation_rate=2, use_bias=False),
    ),
    "depthwise": stack(
        lambda L: L.DepthwiseConv2D((3, 2), padding="same", depth_multiplier=3, strides=2),
        lambda L: L.DepthwiseConv2D(2, dilation_rate=(2, 1), use_bias=False, activation="relu"),
    ),
    "causal": stack(
        lambda L: L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"),
        lambda L: L.Conv1D(4, 3, strides=2, padding="causal"),
        shape=(17, 3),
    ),
    "conv1d": stack(
        lambda L: L.Conv1D(6, 4, strides=3, padding="same", groups=3),
        lambda L: L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"),
        lambda L: L.MaxPooling1D(2, padding="same"),
        lambda L: L.AveragePooling1D(2, strides=1, padding="same"),
        lambda L: L.BatchNormalization(),
        lambda L: L.SeparableConv1D(4, 2, padding="same"),
        lambda L: L.ZeroPadding1D((2, 1)),
        lambda L: L.Cropping1D((1, 1)),
        lambda L: L.GlobalAveragePooling1D(),
        shape=(23, 3),
    ),
    "global_1d": graph(
        lambda k, L, x: [L.GlobalMaxPooling1D(keepdims=True)(x), L.GlobalMaxPooling1D()(x)], (23, 3)
    ),
    "global_2d": graph(lambda k, L, x: [L.GlobalMaxPooling2D(keepdims=True)(x), L.GlobalMaxPooling2D()(x)]),
    "pads": stack(
        lambda L: L.ZeroPadding2D(((1, 2), (0, 3))),
        lambda L: L.Cropping2D(((0, 1), (2, 0))),
        lambda L: L.ZeroPadding2D(2),
        lambda L: L.Cropping2D((1, 2)),
        lambda L: L.UpSampling2D((2, 3)),
    ),
    "shapes": stack(
        lambda L: L.Permute((3, 1, 2)),
        lambda L: L.Reshape((4, -1)),
        lambda L: L.Permute((2, 1)),
        lambda L: L.Reshape((-1,)),
        lambda L: L.Reshape((6, 6, 7)),
        lambda L: L.Flatten(),
    ),
    "identities": stack(
        lambda L: L.Dropout(0.1),
        lambda L: L.SpatialDropout2D(0.1),
        lambda L: L.GaussianNoise(0.1),
        lambda L: L.GaussianDropout(0.1),
        lambda L: L.ActivityRegularization(l1=0.1),
        lambda L: L.Conv2D(2, 2, kernel_regularizer="l2", kernel_constraint="max_norm"),
        lambda L: L.Dropout(0.2),
    ),
    "relus": graph(
        lambda k, L, x: [
            layer(x)
            for layer in (
                L.ReLU(),
                L.ReLU(0.7),
                L.ReLU(negative_slope=0.2),
                L.ReLU(threshold=0.3),
                L.ReLU(0.7, 0.2, 0.1),
                L.ReLU(0.7, 0.2),
                L.ReLU(0.7, threshold=0.2),
                L.ReLU(negative_slope=0.1, threshold=0.3),
                L.LeakyReLU(),
                L.PReLU(),
                L.PReLU(shared_axes=[1, 2]),
                L.ELU(0.3),
                L.Softmax(),
                L.Softmax(axis=1),
            )
        ]
    ),
    "norm": stack(
        lambda L: L.BatchNormalization(axis=1),
        lambda L: L.BatchNormalization(axis=2, center=False),
        lambda L: L.BatchNormalization(epsilon=0.1, scale=False, center=False),
        lambda L: L.Flatten(),
        lambda L: L.BatchNormalization(),
    ),
    "rescaling": stack(
        lambda L: L.Rescaling(1 / 127.5, offset=-1),
        lambda L: L.Rescaling([0.5, 1.0, 2.0, 3.0]),
        lambda L: L.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0]),
        lambda L: L.Normalization(mean=2.0, variance=3.0, axis=None),
        lambda L: L.Normalization(),
        lambda L: L.Normalization(axis=(1, 3)),
    ),
    **{
        f"conv_{padding}_{stride}_{kernel}_{dilation}": stack(
            lambda L, p=padding, s=stride, q=kernel, d=dilation: L.Conv2D(
                6, q, strides=s, padding=p, dilation_rate=d, groups=2
            )
        )
        for padding in ("same", "valid")
        for kernel in ((1, 1), (2, 3), (3, 3), (5, 4))
        for stride, dilation in ((1, 1), (2, 1), (3, 1), ((2, 3), 1), (1, 2))
        if padding == "same" or kernel[0] < 5 or dilation == 1
    },
    **{
        f"pool_{padding}_{stride}_{size}": stack(
            lambda L, p=padding, s=stride, z=size: L.MaxPooling2D(z, s, p),
            lambda L, p=padding, s=stride, z=size: L.AveragePooling2D(z, s, p),
        )
        for padding in ("same", "valid")
        for stride in (None, 1, (2, 1), 3)
        for size in (2, (3, 2))
        if padding == "same" or stride == 1
    },
    **{
        f"activation_{name}": stack(
            lambda L, n=name: L.Dense(4, activation=n), lambda L, n=name: L.Activation(n), shape=(6,)
        )
        for name in (
            "relu", "relu6", "softmax", "sigmoid", "tanh", "linear", "leaky_relu", "elu", "selu", "softplus",
            "softsign", "hard_sigmoid", "exponential", "swish", "silu", "gelu", "mish", "log_softmax", "hard_silu",
        )
    },
}  # fmt: skip
KERAS3_ONLY = {"activation_silu", "activation_hard_silu", "activation_relu6", "activation_leaky_relu"}
KERAS3_CASES: dict[str, Any] = {
    "frozen_same_names": graph(lambda k, L, x: frozen(k, L, x, same_names=True)),
    "operators": graph(lambda k, L, x: (L.Conv2D(4, 1)(x) + x) * L.Conv2D(4, 1)(x)),
    "functions": graph(lambda k, L, x: [k.ops.relu(x), k.ops.relu6(x), k.ops.sigmoid(x), k.ops.tanh(x)]),
    "activation_layer": stack(lambda L: L.Conv2D(3, 2, activation=L.ReLU(0.5))),
}


def randomize(model: Any, rng: np.random.Generator) -> None:
    """Gives every weight a random value, variances positive ones."""
    values = []
    for weight, name in zip(model.get_weights(), [weight.name for weight in model.weights], strict=True):
        positive = "variance" in name or "gamma" in name
        value = rng.uniform(0.2, 2.0, weight.shape) if positive else rng.normal(0, 0.4, weight.shape)
        values.append(np.asarray(value).astype(weight.dtype))
    model.set_weights(values)
    for layer in model.layers:  # Normalization keeps a copy of its weights
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def save(model: Any, kind: str, folder: Path) -> Path:
    """Saves the model in one of the ways users do."""
    suffix, _, beside = kind.partition("+")
    path = folder / f"model.{suffix}"
    if path.suffix == ".json":
        path.write_text(model.to_json())
        model.save_weights(str(folder / f"model{beside}"))
    else:
        model.save(str(path))
    return path


def compare(model: Any, path: Path, rng: np.random.Generator) -> None:
    """Both outputs on the same random inputs."""
    converted = load(path)
    onnx.checker.check_model(converted, full_check=True)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    inputs = [rng.normal(0, 1, (3, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    names = [tensor._keras_history[0].name for tensor in model.inputs]
    got = session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs, strict=True)))
    wanted = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    assert [i.name for i in session.get_inputs()] == names
    assert len(wanted) == len(got)
    for a, b in zip(wanted, got, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, atol=TOLERANCE, rtol=TOLERANCE)


def long_form(names: Any, always: Any) -> list[Any]:
    """Those that are not to run always are the long form."""
    return [name if name in always else pytest.param(name, marks=pytest.mark.exhaustive) for name in names]


@pytest.mark.parametrize("kind", long_form(["keras", "h5", "json+.weights.h5"], ["keras"]))
@pytest.mark.parametrize("case", long_form([*CASES, *KERAS3_CASES], [*CASES, *KERAS3_CASES][::4]))
def test_keras_3(case: str, kind: str, tmp_path: Path) -> None:
    """What Keras 3 computes and what ONNX Runtime computes from the file it wrote."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras", minversion="3")
    keras.utils.clear_session()
    rng = np.random.default_rng([SEED, zlib.crc32(case.encode())])
    model = {**CASES, **KERAS3_CASES}[case](keras, keras.layers)
    randomize(model, rng)
    compare(model, save(model, kind, tmp_path), rng)


@pytest.mark.parametrize("kind", ["keras", "h5", "json+_weights.h5"])
@pytest.mark.parametrize("case", [name for name in CASES if name not in KERAS3_ONLY])
def test_keras_2(case: str, kind: str, tmp_path: Path) -> None:
    """The same with Keras 2."""
    keras = pytest.importorskip("tf_keras")
    keras.backend.clear_session()
    rng = np.random.default_rng([SEED, zlib.crc32(case.encode())])
    model = CASES[case](keras, keras.layers)
    randomize(model, rng)
    compare(model, save(model, kind, tmp_path), rng)


CHANNELS_FIRST: dict[str, Any] = {
    "conv": lambda L, f: L.Conv2D(6, 3, strides=2, padding="same", activation="relu", groups=2, data_format=f),
    "separable": lambda L, f: L.SeparableConv2D(6, 3, padding="same", data_format=f),
    "depthwise": lambda L, f: L.DepthwiseConv2D((2, 3), depth_multiplier=2, data_format=f),
    "max": lambda L, f: L.MaxPooling2D(2, padding="same", data_format=f),
    "average": lambda L, f: L.AveragePooling2D(2, padding="same", data_format=f),
    "global": lambda L, f: L.GlobalAveragePooling2D(data_format=f, keepdims=True),
    "pad": lambda L, f: L.ZeroPadding2D(((1, 2), (3, 0)), data_format=f),
    "crop": lambda L, f: L.Cropping2D(((1, 2), (3, 0)), data_format=f),
    "up": lambda L, f: L.UpSampling2D((2, 3), data_format=f),
    "normalization": lambda L, f: L.BatchNormalization(axis=1 if f == "channels_first" else -1),
}


@pytest.mark.parametrize("kind", CHANNELS_FIRST)
def test_channels_first(kind: str, tmp_path: Path) -> None:
    """TensorFlow runs few channels-first layers on a CPU: the reference is the same layer between two Permutes."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras", minversion="3")
    rng, layers = np.random.default_rng(SEED), keras.layers
    model = stack(lambda L: CHANNELS_FIRST[kind](L, "channels_first"), shape=(4, 9, 7))(keras, layers)
    model.add(layers.Flatten(data_format="channels_first"))
    randomize(model, rng)
    last = stack(
        lambda L: L.Permute((2, 3, 1)),
        lambda L: CHANNELS_FIRST[kind](L, "channels_last"),
        lambda L: L.Flatten(),
        shape=(4, 9, 7),
    )(keras, layers)
    last.set_weights(model.get_weights())
    path = save(model, "keras", tmp_path)
    session = onnxruntime.InferenceSession(load(path).SerializeToString())
    x = rng.normal(0, 1, (3, 4, 9, 7)).astype(np.float32)
    got = session.run(None, {session.get_inputs()[0].name: x})[0]
    np.testing.assert_allclose(got, last.predict(x, verbose=0), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_hand_written_files_are_what_keras_reads(library, tmp_path):
    """The files of test_keras.py, loaded by Keras itself, compute the same."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip(library)
    if library == "keras":
        paths = [write_keras(tmp_path / "m.keras", keras3(NET), NUMBERED)]
    else:
        paths = [write_h5(tmp_path / "m.h5", NET, NAMED), write_json(tmp_path / "j.json", NET, NAMED)]
    for path in paths:
        if path.suffix == ".json":
            model = keras.models.model_from_json(path.read_text())
            model.load_weights(str(tmp_path / "j_weights.h5"))
        else:
            model = keras.models.load_model(str(path), compile=False)
        np.testing.assert_allclose(model.predict(X, verbose=0), expected(X), atol=TOLERANCE)
        compare(model, path, np.random.default_rng(SEED))
