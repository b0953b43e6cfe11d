"""HGQ2's files as data: formats element by element, against a plain restatement of its source, and against HGQ2."""

import os
from pathlib import Path

import numpy as np
import pytest

import toolchain
from tests.frontends.hgq_files import ROUND, Bits, bias, counted, hgq, mixed, stored, wanted, weight, written
from tests.frontends.keras_files import functional, keras3_call, layer, sequential
from tests.small import run
from toolchain.compiler import compile_model
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.keras import load
from toolchain.ir import TensorType

RNG = np.random.default_rng(29)


def predicted(path, x):
    return compile_model(path, path.parent / "p").simulator().predict(x)


def on_grid(shape, spread=2.0):
    return np.round(RNG.normal(0, spread, (200, *shape)) * 1024).astype(np.float32) / 1024


def dense(folder, given, kernel=None, **settings):
    """A Dense layer of 6 inputs that are quantized, its file and its meaning."""
    kernel = RNG.normal(0, 0.5, (6, 3)).astype(np.float32) if kernel is None else kernel
    offset = RNG.normal(0, 0.5, 3).astype(np.float32)
    kq, bq = weight((6, 3)), bias(3)
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 6]),
        hgq("QDense", "d", units=3, activation="relu", iq_conf=given, kq_conf=kq, bq_conf=bq, **settings),
    )
    path = written(folder, net, stored("q_dense", counted(kernel, offset), iq=given, kq=kq, bq=bq))
    return path, lambda x: np.maximum(given(x) @ kq(kernel) + bq(offset), 0)


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
@pytest.mark.parametrize("rounding", [*ROUND, "S_RND", "S_RND_CONV"])
def test_every_mode_is_what_its_source_says(rounding, overflow, tmp_path):
    given = mixed((1, 6), rounding=rounding, overflow=overflow)
    if overflow == "SAT_SYM":
        given.k = np.ones((1, 6))
    path, source = dense(tmp_path, given)
    x = on_grid((6,))
    assert np.array_equal(predicted(path, x), source(x))


@pytest.mark.parametrize("zeros", [slice(0, 2), slice(0, 3)], ids=["two outputs", "all outputs"])
def test_outputs_without_weights_are_no_wider_than_others(zeros, tmp_path):
    kernel = RNG.normal(0, 0.5, (6, 3)).astype(np.float32)
    kernel[:, zeros] = 0
    path, source = dense(tmp_path, mixed((1, 6)), kernel)
    x = on_grid((6,))
    assert np.array_equal(predicted(path, x), source(x))
    types = toolchain.load(tmp_path / "p").graph.types.values()
    assert max(type.width for type in types if isinstance(type, TensorType)) <= 40


@pytest.mark.parametrize("kind", ["kif", "kbi"])
@pytest.mark.parametrize("overflow", ["WRAP", "SAT"])
def test_one_format_for_a_tensor(kind, overflow, tmp_path):
    axes = {"homogeneous_axis": None, "heterogeneous_axis": []}
    given = Bits(np.ones((1, 1)), np.full((1, 1), 1), np.full((1, 1), 3), kind, "RND_CONV", overflow, **axes)
    path, source = dense(tmp_path, given)
    x = RNG.normal(0, 2, (200, 6)).astype(np.float32)
    assert np.array_equal(predicted(path, x), source(x))
    assert (given(x) != wanted(x, 1, 20, 3, "RND_CONV")).any(), "some are beyond the format"


def test_stored_bits_are_rounded_half_to_even(tmp_path):
    given = Bits(np.ones((1, 6)), np.full((1, 6), 1.5), np.full((1, 6), 2.5))
    path, _ = dense(tmp_path, given)
    (node,) = [node for node in load(path).graph.node if node.op_type == "FixedQuant"]
    constants = {one.name: one for one in load(path).graph.initializer}
    values = [np.frombuffer(constants[name].raw_data, np.float32)[0] for name in node.input[1:]]
    assert values == [1, 2, 2]


def test_a_network_with_all_that_moves_numbers(tmp_path):
    """Convolution, normalization, pooling, a mean, a sum of two branches; formats per element and per channel."""
    channel = {"homogeneous_axis": None, "heterogeneous_axis": [-1]}
    quantizers = {
        "c": mixed((1, 6, 6, 2)), "n": mixed((1, 1, 1, 4), overflow="SAT", **channel), "p": mixed((1, 6, 6, 4)),
        "m": mixed((1, 3, 3, 4)), "a": mixed((1, 4)), "b": mixed((1, 4)), "o": mixed((1, 3)), "i": mixed((1, 4)),
    }  # fmt: skip
    for one in quantizers.values():
        one.k, one.i = np.ones_like(one.k), one.i + 1
    q = quantizers
    arrays = {"c": RNG.normal(0, 0.4, (3, 3, 2, 4)), "n": RNG.uniform(0.5, 1.5, (4, 4)), "d": RNG.normal(size=(4, 3))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    ck, cb, nk, nb, dk, db = weight((3, 3, 2, 4)), bias(4), weight(4), bias(4), weight((4, 3)), bias(3)
    offset, last = RNG.normal(size=4).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    conv = {"filters": 4, "kernel_size": [3, 3], "padding": "same", "activation": "relu"}
    net = functional(
        layer("InputLayer", "x", [], batch_input_shape=[None, 6, 6, 2]),
        hgq("QConv2D", "c", [keras3_call("x")], iq_conf=q["c"], kq_conf=ck, bq_conf=cb, **conv),
        hgq("QBatchNormalization", "n", [keras3_call("c")], iq_conf=q["n"], kq_conf=nk, bq_conf=nb, axis=-1),
        hgq("QMaxPooling2D", "p", [keras3_call("n")], pool_size=[2, 2], iq_conf=q["p"]),
        hgq("QMeanPow2", "m", [keras3_call("p")], axes=[1, 2], iq_conf=q["m"]),
        hgq("QAdd", "a", [keras3_call("m", "m")], iq_confs=[q["a"].conf, q["b"].conf]),
        hgq(
            "QDense", "d", [keras3_call("a")], counters=False, units=3, iq_conf=q["i"], kq_conf=dk, bq_conf=db,
            oq_conf=q["o"], enable_oq=True,
        ),
        inputs=["x"],
        outputs=["d"],
    )  # fmt: skip
    groups = {
        **stored("q_conv2d", counted(arrays["c"], offset), iq=q["c"], kq=ck, bq=cb),
        **stored("q_batch_normalization", counted(*arrays["n"]), iq=q["n"], kq=nk, bq=nb),
        **stored("q_max_pooling2d", counted(), iq=q["p"]),
        **stored("q_mean_pow2", counted(), iq=q["m"]),
        **stored("q_add", counted(), iq__quantizers__quantizer=q["a"], iq__quantizers__quantizer_1=q["b"]),
        **stored("q_dense", [arrays["d"], last], iq=q["i"], kq=dk, bq=db, oq=q["o"]),
    }

    def source(x):
        kernel, x = ck(arrays["c"]), np.pad(q["c"](x), [(0, 0), (1, 1), (1, 1), (0, 0)])
        x = sum(x[:, r : r + 6, s : s + 6] @ kernel[r, s] for r in range(3) for s in range(3)) + cb(offset)
        gamma, beta, mean, variance = arrays["n"]
        factor = gamma / np.sqrt(variance + np.float32(1e-3))
        x = q["n"](np.maximum(x, 0)) * nk(factor) + nb(beta - mean * factor)
        x = q["p"](x).reshape(-1, 3, 2, 3, 2, 4).max(axis=(2, 4))
        x = q["m"](x).sum(axis=(1, 2)) / 8
        return q["o"](q["i"](q["a"](x) + q["b"](x)) @ dk(arrays["d"]) + db(last))

    x = on_grid((6, 6, 2), 3.0)
    got = predicted(written(tmp_path, net, groups), x)
    assert np.array_equal(got, source(x))
    assert len(np.unique(got)) > 20
    np.save(tmp_path / "x.npy", x[:4])
    assert run("verify", tmp_path / "p", "--inputs", tmp_path / "x.npy") == 0


def test_a_normalization_inside_of_dense(tmp_path):
    given, kq, bq = mixed((1, 6)), weight((6, 3)), bias(3)
    kernel, offset = RNG.normal(0, 0.5, (6, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    gamma, mean, variance = RNG.uniform(0.5, 1.5, (3, 6)).astype(np.float32)
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 6]),
        hgq("QBatchNormDense", "d", units=3, epsilon=1e-3, scale=True, iq_conf=given, kq_conf=kq, bq_conf=bq),
    )
    arrays = [*counted(kernel, offset, gamma), mean, variance]
    path = written(tmp_path, net, stored("q_batch_norm_dense", arrays, iq=given, kq=kq, bq=bq))
    fused = (gamma / np.sqrt(variance + np.float32(1e-3)))[:, None] * kernel
    x = on_grid((6,))
    assert np.array_equal(predicted(path, x), given(x) @ kq(fused) + bq(offset - mean @ kernel))


def test_two_readers_of_an_input_with_formats_of_their_own(tmp_path):
    first, second = mixed((1, 6)), mixed((1, 6), rounding="TRN", overflow="SAT")
    net = functional(
        layer("InputLayer", "x", [], batch_input_shape=[None, 6]),
        hgq("QSubtract", "s", [keras3_call("x", "x")], iq_confs=[first.conf, second.conf]),
        inputs=["x"],
        outputs=["s"],
    )
    groups = stored("q_subtract", counted(), iq__quantizers__quantizer=first, iq__quantizers__quantizer_1=second)
    x = on_grid((6,))
    assert np.array_equal(predicted(written(tmp_path, net, groups), x), first(x) - second(x))


def test_a_concatenation_of_two_grids_is_exact(tmp_path):
    first, second = mixed((1, 6)), mixed((1, 6))
    net = functional(
        layer("InputLayer", "x", [], batch_input_shape=[None, 6]),
        hgq("QSum", "s", [keras3_call("x")], axes=[1], scale=1.0, keepdims=True, iq_conf=first),
        hgq("QMultiply", "m", [keras3_call("x", "x")], iq_confs=[first.conf, second.conf]),
        layer("Concatenate", "c", [keras3_call("s", "m")], axis=-1),
        inputs=["x"],
        outputs=["c"],
    )
    groups = {
        **stored("q_sum", counted(), iq=first),
        **stored("q_multiply", counted(), iq__quantizers__quantizer=first, iq__quantizers__quantizer_1=second),
    }
    x = on_grid((6,))
    y = np.concatenate([first(x).sum(1, keepdims=True), first(x) * second(x)], axis=1)
    assert np.array_equal(predicted(written(tmp_path, net, groups), x), y)


def function(folder, given, output, name="tanh"):
    """A function between two quantizers, behind a matrix."""
    iq, kq, kernel = mixed((1, 6)), weight((6, 4)), RNG.normal(0, 0.5, (6, 4)).astype(np.float32)
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 6]),
        hgq("QDense", "d", units=4, use_bias=False, iq_conf=iq, kq_conf=kq, bq_conf=None),
        hgq("QUnaryFunctionLUT", "f", activation=name, iq_conf=given, oq_conf=output, enable_oq=True),
    )
    groups = stored("q_dense", counted(kernel), iq=iq, kq=kq)
    groups |= stored("q_unary_function_lut", counted(), iq=given, oq=output)
    return written(folder, net, groups), lambda x: output(np.tanh(given(iq(x) @ kq(kernel))))


def test_a_function_is_a_table_of_all_levels(tmp_path):
    axes = {"homogeneous_axis": None, "heterogeneous_axis": []}
    output = Bits(np.ones((1, 1)), np.zeros((1, 1)), np.full((1, 1), 6), "kbi", overflow="SAT_SYM", **axes)
    path, source = function(tmp_path, mixed((1, 4)), output)
    x = on_grid((6,))
    assert np.array_equal(predicted(path, x), source(x))


def test_a_function_whose_result_has_formats_of_its_own_is_refused(tmp_path):
    path, _ = function(tmp_path, mixed((1, 4)), mixed((1, 4)))
    with pytest.raises(UnsupportedOperator, match=r"^f/quantized: .*use one format and SAT"):
        compile_model(path, tmp_path / "p", calibrate=on_grid((6,)))


def test_too_many_levels_for_a_table_are_refused(tmp_path):
    given = Bits(np.ones((1, 4)), np.full((1, 4), 4), np.full((1, 4), 8))
    with pytest.raises(UnsupportedOperator, match="8192 levels, a table has 4096"):
        load(function(tmp_path, given, mixed((1, 4)))[0])


REFUSED = [
    ({"scaler": 2.0}, "scaler"),
    ({"affine": [0.25, 0.5]}, "affine"),
    ({"bw_mapper": {}}, "bw_mapper"),
    ({"colour": 1}, "colour"),
    ({"heterogeneous_axis": "all"}, "no list of axes"),
    ({"q_type": "float"}, "q_type"),
    ({"overflow_mode": "WRAP_SM"}, "'WRAP_SM' is not supported"),
    ({"round_mode": "UP"}, "'UP' is not supported"),
]


@pytest.mark.parametrize(("settings", "complaint"), REFUSED, ids=str)
def test_settings_that_are_not_supported_are_refused_by_layer(settings, complaint, tmp_path):
    path, _ = dense(tmp_path, mixed((1, 6), **settings))
    with pytest.raises(UnsupportedOperator) as caught:
        load(path)
    assert any(problem.startswith("d") and complaint in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("kind", "complaint"), [("QLIF", "a layer of HGQ2 that is not supported"), ("QSoftmax", "only QDense")]
)
def test_layers_that_are_not_supported_are_refused_by_name(kind, complaint, tmp_path):
    net = sequential(layer("InputLayer", "x", batch_input_shape=[None, 6]), hgq(kind, "q"))
    with pytest.raises(UnsupportedOperator, match=complaint):
        load(written(tmp_path, net, {"x": []}))


@pytest.mark.parametrize(
    ("k", "i", "f", "overflow", "complaint"),
    [
        (2, 1, 3, "SAT", "neither 0 nor 1"),
        (1, 20, 20, "SAT", "has 41 bits"),
        (1, 1, 90, "WRAP", "bits"),
        (1, -8, 3, "WRAP", "everything to 0"),
        ([0, 1, 1, 1, 1, 1], 1, 3, "SAT_SYM", "with and without sign"),
    ],
)
def test_bits_that_no_program_has_are_refused(k, i, f, overflow, complaint, tmp_path):
    formats = (np.broadcast_to(v, (1, 6)) for v in (k, i, f))
    path, _ = dense(tmp_path, Bits(*formats, overflow=overflow))
    with pytest.raises(UnsupportedOperator, match=complaint):
        compile_model(path, tmp_path / "p")


def test_weights_that_wrap_in_some_of_its_settings_are_refused(tmp_path):
    given, bq = mixed((1, 6)), bias(3)
    kq = Bits(np.ones((6, 3)), np.zeros((6, 3)), np.full((6, 3), 4), "kbi", weight=True, is_weight=True)
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 6]),
        hgq("QDense", "d", units=3, iq_conf=given, kq_conf=kq, bq_conf=bq),
    )
    arrays = counted(np.full((6, 3), 1.5, np.float32), np.zeros(3, np.float32))
    with pytest.raises(ModelError, match=r"beyond their bits.*SAT_SYM"):
        load(written(tmp_path, net, stored("q_dense", arrays, iq=given, kq=kq, bq=bq)))


def test_variables_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ModelError, match="the configuration asks for"):
        load(dense(tmp_path, mixed((1, 5)))[0])


def test_an_average_whose_step_is_no_power_of_two_is_refused(tmp_path):
    first, second = mixed((1, 6, 2)), mixed((1, 2, 2))
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 6, 2]),
        hgq("QAveragePooling1D", "p", pool_size=[3], iq_conf=first, oq_conf=second, enable_oq=True),
    )
    path = written(tmp_path, net, stored("q_average_pooling1d", counted(), iq=first, oq=second))
    with pytest.raises(UnsupportedOperator, match=r"^p/quantized: .*no power of two"):
        compile_model(path, tmp_path / "p")


# ---------------------------------------------------------------------------------------------------- with HGQ2 itself


def networks():
    """Sequential models by name, each with the settings of its activations and its input's shape."""
    from hgq import layers as q
    from keras import layers

    tensor = {"homogeneous_axis": None, "heterogeneous_axis": ()}
    channel = {"homogeneous_axis": None, "heterogeneous_axis": (-1,)}
    conv = [lambda: q.QConv2D(4, 3, activation="relu", padding="same"), lambda: q.QMaxPooling2D(2)]
    vector = [lambda: q.QDense(6, activation="relu"), lambda: q.QDense(3)]
    normal = [lambda: q.QConv2D(4, 3), q.QBatchNormalization, layers.ReLU, layers.Flatten]
    fused = [lambda: q.QBatchNormDense(5, activation="relu"), lambda: q.QDense(3)]
    return {
        "elements": ({}, (8,), vector),
        "tensor": (tensor, (8,), vector),
        "saturating": ({**tensor, "overflow_mode": "SAT", "round_mode": "RND_CONV"}, (8,), vector),
        "pictures": ({}, (8, 8, 2), [*conv, layers.Flatten, *vector]),
        "normalized": (channel, (6, 6, 2), [*normal, *fused]),
        "table": ({}, (8,), [*vector[:1], lambda: q.QUnaryFunctionLUT("tanh"), *vector[1:]]),
        "sequence": ({}, (12, 2), [lambda: q.QConv1D(4, 3), lambda: q.QMeanPow2(axes=1), *vector]),
    }


def trained(name, path, rows):
    """A model with bits and numbers as if trained, traced, written; rows of inputs and what HGQ2 predicts."""
    import keras
    from hgq.config import QuantizerConfigScope
    from hgq.utils import trace_minmax

    settings, shape, kinds = networks()[name]
    with QuantizerConfigScope(place="datalane", **settings):
        net = keras.Sequential([keras.layers.Input(shape), *(kind() for kind in kinds)])
    rng = np.random.default_rng(5)
    for variable in net.weights:
        if variable.name in ("f", "b") and np.prod(variable.shape) > 1:
            variable.assign(np.clip(np.rint(variable.numpy()) + rng.integers(-3, 2, variable.shape), 0, 12))
        elif variable.name in ("bias", "bn_beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
        elif variable.name in ("bn_gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    trace_minmax(net, np.round(rng.normal(0, 1, (256, *shape)) * 1024).astype(np.float32) / 1024)
    net.save(path)
    x = np.round(rng.normal(0, 2, (rows, *shape)) * 1024).astype(np.float32) / 1024  # twice the traced range: some wrap
    return x, net.predict(x, verbose=0)


@pytest.mark.optional
@pytest.mark.parametrize("name", ["elements", "tensor", "saturating", "pictures", "normalized", "table", "sequence"])
def test_the_program_gives_what_hgq_predicts(name, tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    pytest.importorskip("hgq")
    x, y = trained(name, tmp_path / "m.keras", 300)
    got = predicted(Path(tmp_path / "m.keras"), x)
    assert np.count_nonzero(got != y) == 0
    assert len(np.unique(y)) > 50
