"""The TFLite front end against LiteRT, operator by operator: one-operator files, outputs through ONNX Runtime.

Floating point on both sides, hence a tolerance.
"""

import numpy as np
import onnxruntime
import pytest

from tests.frontends.tflite_files import Network
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends import read_graph, read_model
from toolchain.frontends.tflite import load
from toolchain.passes.pipeline import REAL_PASSES, run

TOLERANCE = 2e-5
SAME, VALID = 0, 1
RELU, RELU_N1_TO_1, RELU6, TANH, SIGN_BIT = 1, 2, 3, 4, 5
RNG = np.random.default_rng(7)
print("seed 7")


def real(*shape):
    return RNG.normal(0, 1, shape).astype(np.float32)


def integers(*values):
    return np.array(values, dtype=np.int32)


PICTURE = (1, 6, 7, 4)
CONVOLUTION = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
POOL = {"StrideW": 2, "StrideH": 1, "FilterWidth": 3, "FilterHeight": 2}

CASES = {
    # name: kind, inputs (shapes are computed, arrays constant), output shape, options, fields
    "conv": ("CONV_2D", [PICTURE, real(5, 3, 3, 4), real(5)], (1, 6, 7, 5), "Conv2D", {**CONVOLUTION, "Padding": SAME}),
    "conv_valid_relu6": (
        "CONV_2D", [PICTURE, real(5, 2, 3, 4), real(5)], (1, 5, 5, 5), "Conv2D",
        {**CONVOLUTION, "Padding": VALID, "FusedActivationFunction": RELU6},
    ),
    "conv_strided": (
        "CONV_2D", [PICTURE, real(5, 3, 2, 4), real(5)], (1, 3, 3, 5), "Conv2D",
        {**CONVOLUTION, "Padding": SAME, "StrideH": 2, "StrideW": 3, "FusedActivationFunction": RELU},
    ),
    "conv_dilated": (
        "CONV_2D", [PICTURE, real(5, 3, 2, 4), real(5)], (1, 6, 7, 5), "Conv2D",
        {**CONVOLUTION, "Padding": SAME, "DilationHFactor": 2, "DilationWFactor": 3},
    ),
    "conv_grouped": ("CONV_2D", [PICTURE, real(6, 3, 3, 2), real(6)], (1, 6, 7, 6), "Conv2D", {**CONVOLUTION}),
    "depthwise": (
        "DEPTHWISE_CONV_2D", [PICTURE, real(1, 3, 3, 4), real(4)], (1, 3, 4, 4), "DepthwiseConv2D",
        {**CONVOLUTION, "StrideH": 2, "StrideW": 2, "DepthMultiplier": 1, "FusedActivationFunction": RELU_N1_TO_1},
    ),
    "depthwise_multiplied": (
        "DEPTHWISE_CONV_2D", [PICTURE, real(1, 2, 3, 12), real(12)], (1, 5, 5, 12), "DepthwiseConv2D",
        {**CONVOLUTION, "DepthMultiplier": 3, "Padding": VALID},
    ),
    "transpose_conv": (
        "TRANSPOSE_CONV", [integers(1, 12, 13, 3), real(3, 3, 3, 4), PICTURE], (1, 12, 13, 3), "TransposeConv",
        {"StrideH": 2, "StrideW": 2, "Padding": SAME},
    ),
    "transpose_conv_valid": (
        "TRANSPOSE_CONV", [integers(1, 14, 15, 3), real(3, 3, 3, 4), PICTURE], (1, 14, 15, 3), "TransposeConv",
        {"StrideH": 2, "StrideW": 2, "Padding": VALID},
    ),
    "dense": (
        "FULLY_CONNECTED", [(1, 6), real(5, 6), real(5)], (1, 5), "FullyConnected", {"FusedActivationFunction": RELU},
    ),
    "dense_of_a_picture": ("FULLY_CONNECTED", [PICTURE, real(5, 168), real(5)], (1, 5), "FullyConnected", {}),
    "dense_without_bias": ("FULLY_CONNECTED", [(1, 6), real(5, 6)], (1, 5), "FullyConnected", {}),
    "dense_along_rows": (
        "FULLY_CONNECTED", [(1, 3, 6), real(5, 6), real(5)], (1, 3, 5), "FullyConnected", {"KeepNumDims": True},
    ),
    "average": ("AVERAGE_POOL_2D", [PICTURE], (1, 6, 4, 4), "Pool2D", {**POOL, "Padding": SAME}),
    "maximum_pool": (
        "MAX_POOL_2D", [PICTURE], (1, 5, 3, 4), "Pool2D", {**POOL, "Padding": VALID, "FusedActivationFunction": RELU},
    ),
    "mean": ("MEAN", [PICTURE, integers(1, 2)], (1, 4), "Reducer", {"KeepDims": False}),
    "mean_kept": ("MEAN", [PICTURE, integers(-2, 1)], (1, 1, 1, 4), "Reducer", {"KeepDims": True}),
    "mean_of_channels": ("MEAN", [PICTURE, integers(3)], (1, 6, 7), "Reducer", {}),
    "reduce_max": ("REDUCE_MAX", [PICTURE, integers(1, 2)], (1, 4), "Reducer", {}),
    "reduce_min": ("REDUCE_MIN", [PICTURE, integers(3)], (1, 6, 7, 1), "Reducer", {"KeepDims": True}),
    "sum": ("SUM", [PICTURE, integers(3)], (1, 6, 7), "Reducer", {}),
    "add": ("ADD", [PICTURE, PICTURE], PICTURE, "Add", {"FusedActivationFunction": RELU6}),
    "add_channels": ("ADD", [PICTURE, real(4)], PICTURE, "Add", {}),
    "subtract": ("SUB", [real(1, 6, 7, 4), PICTURE], PICTURE, "Sub", {"FusedActivationFunction": RELU}),
    "multiply": ("MUL", [PICTURE, (1, 1, 1, 4)], PICTURE, "Mul", {}),
    "divide": ("DIV", [PICTURE, np.abs(real(4)) + 1], PICTURE, "Div", {}),
    "maximum": ("MAXIMUM", [PICTURE, real(1)], PICTURE, "MaximumMinimum", {}),
    "minimum": ("MINIMUM", [PICTURE, PICTURE], PICTURE, "MaximumMinimum", {}),
    "leaky_relu": ("LEAKY_RELU", [PICTURE], PICTURE, "LeakyRelu", {"Alpha": 0.3}),
    "prelu": ("PRELU", [PICTURE, real(1, 1, 4)], PICTURE, "", {}),
    "softmax": ("SOFTMAX", [(1, 9)], (1, 9), "Softmax", {"Beta": 1.0}),
    "softmax_of_a_picture": ("SOFTMAX", [PICTURE], PICTURE, "Softmax", {"Beta": 0.5}),
    "squared_difference": ("SQUARED_DIFFERENCE", [PICTURE, PICTURE], PICTURE, "SquaredDifference", {}),
    "l2": ("L2_NORMALIZATION", [PICTURE], PICTURE, "L2Norm", {}),
    "lrn": (
        "LOCAL_RESPONSE_NORMALIZATION", [PICTURE], PICTURE, "LocalResponseNormalization",
        {"Radius": 1, "Bias": 1.0, "Alpha": 0.3, "Beta": 0.75},
    ),
    "gelu": ("GELU", [PICTURE], PICTURE, "Gelu", {}),
    "concatenation": ("CONCATENATION", [PICTURE, (1, 6, 7, 2)], (1, 6, 7, 6), "Concatenation", {"Axis": -1}),
    "concatenation_of_rows": ("CONCATENATION", [PICTURE, real(1, 2, 7, 4)], (1, 8, 7, 4), "Concatenation", {"Axis": 1}),
    "reshape": ("RESHAPE", [PICTURE, integers(1, 168)], (1, 168), "Reshape", {"NewShape": [1, 168]}),
    "squeeze": ("SQUEEZE", [(1, 1, 1, 4)], (1, 4), "Squeeze", {"SqueezeDims": [1, 2]}),
    "expand": ("EXPAND_DIMS", [(1, 5), integers(1)], (1, 1, 5), "ExpandDims", {}),
    "transpose": ("TRANSPOSE", [PICTURE, integers(0, 3, 1, 2)], (1, 4, 6, 7), "Transpose", {}),
    "pad": ("PAD", [PICTURE, integers([0, 0], [1, 2], [0, 1], [0, 0])], (1, 9, 8, 4), "Pad", {}),
    "pad_channels": (
        "PADV2", [PICTURE, integers([0, 0], [0, 0], [0, 0], [1, 3]), np.float32([2.5])], (1, 6, 7, 8), "PadV2", {},
    ),
    "mirror": ("MIRROR_PAD", [PICTURE, integers([0, 0], [1, 2], [0, 1], [0, 0])], (1, 9, 8, 4), "MirrorPad", {}),
    "slice": ("SLICE", [PICTURE, integers(0, 1, 2, 0), integers(1, 3, -1, 2)], (1, 3, 5, 2), "Slice", {}),
    "strided_slice": (
        "STRIDED_SLICE", [PICTURE, integers(0, 1, 6, 0), integers(1, 5, 0, 3), integers(1, 2, -2, 1)], (1, 2, 4, 4),
        "StridedSlice", {"BeginMask": 1, "EndMask": 0b1101},
    ),
    "strided_slice_shrunk": (
        "STRIDED_SLICE", [PICTURE, integers(0, 2, 0, 0), integers(1, 3, 7, 4), integers(1, 1, 1, 1)], (1, 7, 4),
        "StridedSlice", {"ShrinkAxisMask": 2, "BeginMask": 1, "EndMask": 1},
    ),
    "split": ("SPLIT", [integers(3), PICTURE], [(1, 6, 7, 2)] * 2, "Split", {"NumSplits": 2}),
    "split_v": (
        "SPLIT_V", [PICTURE, integers(1, 3), integers(-1)], [(1, 6, 7, 1), (1, 6, 7, 3)], "SplitV", {"NumSplits": 2},
    ),
    "pack": ("PACK", [(1, 5), (1, 5)], (1, 2, 5), "Pack", {"ValuesCount": 2, "Axis": 1}),
    "unpack": ("UNPACK", [(1, 2, 5)], [(1, 5)] * 2, "Unpack", {"Num": 2, "Axis": 1}),
    "gather": ("GATHER", [PICTURE, integers(3, 0, 0)], (1, 6, 7, 3), "Gather", {"Axis": 3}),
    "tile": ("TILE", [PICTURE, integers(1, 2, 1, 3)], (1, 12, 7, 12), "Tile", {}),
    "depth_to_space": ("DEPTH_TO_SPACE", [(1, 3, 2, 8)], (1, 6, 4, 2), "DepthToSpace", {"BlockSize": 2}),
    "space_to_depth": ("SPACE_TO_DEPTH", [(1, 6, 4, 2)], (1, 3, 2, 8), "SpaceToDepth", {"BlockSize": 2}),
    "matmul": ("BATCH_MATMUL", [(1, 3, 5), (1, 4, 5)], (1, 3, 4), "BatchMatMul", {"AdjY": True}),
    "add_n": ("ADD_N", [PICTURE, PICTURE, PICTURE], PICTURE, "AddN", {}),
    **{
        kind.lower(): (kind, [PICTURE], PICTURE, options, {})
        for kind, options in (
            ("RELU", ""), ("RELU6", ""), ("RELU_N1_TO_1", ""), ("RELU_0_TO_1", ""), ("LOGISTIC", ""), ("TANH", ""),
            ("HARD_SWISH", "HardSwish"), ("ELU", ""), ("ABS", "Abs"), ("NEG", "Neg"), ("EXP", "Exp"), ("SIN", ""),
            ("COS", "Cos"), ("SIGN", "Sign"), ("FLOOR", ""), ("CEIL", ""), ("ROUND", ""), ("SQUARE", "Square"),
            ("LOG_SOFTMAX", "LogSoftmax"),
        )
    },
    **{
        f"resize_{kind}_{corners}{centers}_{rows}x{columns}": (
            f"RESIZE_{kind}", [PICTURE, integers(rows, columns)], (1, rows, columns, 4),
            "ResizeBilinear" if kind == "BILINEAR" else "ResizeNearestNeighbor",
            {"AlignCorners": bool(corners), "HalfPixelCenters": bool(centers)},
        )
        for kind in ("BILINEAR", "NEAREST_NEIGHBOR")
        for corners, centers in ((0, 0), (1, 0), (0, 1))
        for rows, columns in ((12, 14), (5, 10), (3, 3))
    },
}  # fmt: skip


def written(path, kind, inputs, outputs, options, fields):
    """A file of one operator."""
    network = Network()
    shapes = outputs if isinstance(outputs, list) else [outputs]
    tensors = [network.constant(i) if isinstance(i, np.ndarray) else network.tensor(i) for i in inputs]
    results = [network.tensor(shape) for shape in shapes]
    network.operator(kind, tensors, results, options, **fields)
    given = [t for t, i in zip(tensors, inputs, strict=True) if not isinstance(i, np.ndarray)]
    return network.write(path, given, results)


def litert(path, arrays):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    runner = interpreter.Interpreter(str(path))
    runner.allocate_tensors()
    for details, array in zip(runner.get_input_details(), arrays, strict=True):
        runner.set_tensor(details["index"], array)
    runner.invoke()
    return [runner.get_tensor(details["index"]) for details in runner.get_output_details()]


def onnx_outputs(model, arrays):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {given.name: a for given, a in zip(session.get_inputs(), arrays, strict=True)})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_against_litert(case, tmp_path):
    path = written(tmp_path / "m.tflite", *case)
    arrays = [real(*shape) for shape in case[1] if not isinstance(shape, np.ndarray)]
    wanted, got = litert(path, arrays), onnx_outputs(load(path), arrays)
    for a, b in zip(wanted, got, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, atol=TOLERANCE * max(1, np.abs(a).max()))


def test_hybrid_and_half_weights(tmp_path):
    """int8 weights of a float layer, per tensor and per channel, and float16 ones behind a DEQUANTIZE."""
    weights = RNG.integers(-127, 128, (5, 6)).astype(np.int8)
    for scale, zero, axis in ((0.02, 0, 0), (np.linspace(0.01, 0.05, 5), np.zeros(5), 0)):
        network = Network()
        x, w, y = (
            network.tensor((1, 6)),
            network.constant(weights, scale=scale, zero=zero, axis=axis),
            network.tensor((1, 5)),
        )
        network.operator("FULLY_CONNECTED", [x, w, -1], [y], "FullyConnected")
        array = real(3, 6)
        (got,) = onnx_outputs(load(network.write(tmp_path / "m.tflite", [x], [y])), [array])
        np.testing.assert_allclose(got, array @ (weights * np.reshape(scale, (-1, 1))).T, atol=1e-5)
    network = Network()
    half = real(5, 6).astype(np.float16)
    x, w, d, y = network.tensor((1, 6)), network.constant(half), network.tensor((5, 6)), network.tensor((1, 5))
    network.operator("DEQUANTIZE", [w], [d], "Dequantize")
    network.operator("FULLY_CONNECTED", [x, d, -1], [y], "FullyConnected")
    path = network.write(tmp_path / "m.tflite", [x], [y])
    array = real(1, 6)
    (wanted,), (got,) = litert(path, [array]), onnx_outputs(load(path), [array])
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_four_bit_weights(tmp_path):
    network = Network()
    x, w, y = (
        network.tensor((1, 3)),
        network.tensor((1, 3), "int4", np.uint8([0x9F, 0x07]), 0.5),
        network.tensor((1, 1)),
    )
    network.operator("FULLY_CONNECTED", [x, w, -1], [y], "FullyConnected")
    path = network.write(tmp_path / "m.tflite", [x], [y])
    (got,) = onnx_outputs(load(path), [np.eye(3, dtype=np.float32)])
    assert np.array_equal(got.ravel(), [-0.5, -3.5, 3.5])


def test_names_and_transposes(tmp_path):
    """Layers go by the first of the names that the converter joined; layouts cancel."""
    network = Network()
    x = network.tensor(PICTURE, name="picture")
    w, b = network.constant(real(4, 3, 3, 4)), network.constant(real(4))
    hidden = network.tensor(PICTURE, name="stem/Relu;stem/BiasAdd;stem/Conv2D")
    y = network.tensor(PICTURE, name="result")
    for source, target in ((x, hidden), (hidden, y)):
        fields = {**CONVOLUTION, "FusedActivationFunction": RELU}
        network.operator("CONV_2D", [source, w, b], [target], "Conv2D", **fields)
    path = network.write(tmp_path / "m.tflite", [x], [y])
    graph = run(read_graph(path), REAL_PASSES)
    assert [node.layer for node in graph.nodes] == ["stem/Relu", "stem/Relu/relu", "result", "result/relu"]
    assert [given.name for given in graph.inputs] == ["picture"]
    assert [output.name for output in graph.outputs] == ["result"]
    assert graph.inputs[0].model_shape == PICTURE[1:]


def test_computed_shape_of_a_flatten(tmp_path):
    """SHAPE, STRIDED_SLICE and PACK that only compute what a RESHAPE knows anyway are left out."""
    network = Network()
    x, y = network.tensor(PICTURE, signature=(-1, 6, 7, 4)), network.tensor((1, 168), signature=(-1, 168))
    shape, batch, packed = network.tensor((4,), "int32"), network.tensor((), "int32"), network.tensor((2,), "int32")
    network.operator("SHAPE", [x], [shape], "Shape")
    ends = [network.constant(integers(k)) for k in (0, 1, 1)]
    network.operator("STRIDED_SLICE", [shape, *ends], [batch], "StridedSlice", ShrinkAxisMask=1)
    network.operator("PACK", [batch, network.constant(np.int32(-1))], [packed], "Pack", ValuesCount=2)
    network.operator("RESHAPE", [x, packed], [y], "Reshape")
    graph = read_graph(network.write(tmp_path / "m.tflite", [x], [y]))
    assert [type(node.operator).__name__ for node in graph.nodes] == ["Reshape"]


def test_free_dimensions(tmp_path):
    network = Network()
    x, y = (
        network.tensor((1, 1, 7, 4), signature=(-1, -1, 7, 4)),
        network.tensor((1, 1, 7, 4), signature=(-1, -1, 7, 4)),
    )
    network.operator("RELU", [x], [y])
    path = network.write(tmp_path / "m.tflite", [x], [y])
    with pytest.raises(ModelError, match="--input-shape"):
        read_model(path)
    graph = read_graph(path, input_shapes={"t0": (1, 5, 7, 4)})
    assert graph.inputs[0].model_shape == (5, 7, 4)


@pytest.mark.parametrize(("case", "text"), [
    (("CUMSUM", [(1, 4), integers(1)], (1, 4), "Cumsum", {}), "CUMSUM 0 't2': this operator is not supported"),
    ((*CASES["add"][:4], {"FusedActivationFunction": SIGN_BIT}), "fused activation 5"),
    ((*CASES["add"][:4], {"FusedActivationFunction": TANH}), "fused activation 4"),
    ((*CASES["mirror"][:4], {"Mode": 1}), "SYMMETRIC"),
    ((*CASES["gelu"][:4], {"Approximate": True}), "Approximate"),
    ((*CASES["strided_slice"][:4], {"EllipsisMask": 1}), "option EllipsisMask = 1"),
    ((*CASES["dense"][:4], {"WeightsFormat": 1}), "shuffled"),
    (("FULLY_CONNECTED", [(1, 3, 6), real(5, 6)], (3, 5), "FullyConnected", {}), "part of the batch"),
    (("RESHAPE", [(1, 6, 2), integers(6, 2)], (6, 2), "Reshape", {}), "samples of a batch"),
    (("FULLY_CONNECTED", [(1, 6), (5, 6)], (1, 5), "FullyConnected", {}), "is computed by the network"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_refused(case, text, tmp_path):
    with pytest.raises(UnsupportedOperator, match=text):
        load(written(tmp_path / "m.tflite", *case))


def test_every_unsupported_operator_is_listed(tmp_path):
    network = Network()
    x, a, b, y = (network.tensor((1, 4)) for _ in range(4))
    network.operator("CUMSUM", [x, network.constant(integers(1))], [a], "Cumsum")
    network.operator("RELU", [a], [b])
    network.operator("CUMSUM", [x, network.constant(integers(1))], [y], "Cumsum")
    with pytest.raises(UnsupportedOperator) as error:
        load(network.write(tmp_path / "m.tflite", [x], [b, y]))
    assert len(error.value.problems) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(value, tmp_path):
    weights = real(5, 6)
    weights[2, 3] = value
    path = written(tmp_path / "m.tflite", "FULLY_CONNECTED", [(1, 6), weights], (1, 5), "FullyConnected", {})
    with pytest.raises(ModelError, match="tensor 1 't1': holds NaN or infinity"):
        load(path)
