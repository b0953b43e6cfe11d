"""Small ONNX models: for every operator that is imported, the combinations of its attributes that mean something.

A case is one node (with the nodes that prepare its constants, where it needs any). `X` marks a computed input by its
shape without the batch; arrays are constants; None is an input left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(19)
F, I64 = np.float32, np.int64


@dataclass(frozen=True)
class X:
    """A computed input."""

    shape: tuple[int, ...]

    def __init__(self, *shape: int) -> None:
        object.__setattr__(self, "shape", shape)


@dataclass(frozen=True)
class Case:
    """One model.

    `oracle` says who knows the right answer: onnx's `reference` evaluator, `onnxruntime` where the former is wrong or
    lacks the opset, or a function of the inputs where both do.
    """

    name: str
    op: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    oracle: str | Callable[..., np.ndarray] = "reference"
    outputs: int = 1
    before: tuple[onnx.NodeProto, ...] = ()
    domain: str = ""
    complaint: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the model's inputs by name, without the batch."""
        return {f"x{k}": given.shape for k, given in enumerate(self.inputs) if isinstance(given, X)}

    def model(self, batch: int | str = "N") -> onnx.ModelProto:
        names, constants = [], []
        for k, given in enumerate(self.inputs):
            if isinstance(given, np.ndarray):
                constants.append(numpy_helper.from_array(given, f"c{k}"))
            names.append(
                given
                if isinstance(given, str)
                else ""
                if given is None
                else f"x{k}"
                if isinstance(given, X)
                else f"c{k}"
            )
        outputs = [f"y{k}" if k else "y" for k in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, name="layer", domain=self.domain, **self.attributes)
        infos = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
            for name, shape in self.shapes.items()
        ]
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph([*self.before, node], "case", infos, [result], constants)
        if self.opset < 8:  # before IR version 4 every initializer is an input
            graph.input.extend(helper.make_tensor_value_info(c.name, c.data_type, list(c.dims)) for c in constants)
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=3 if self.opset < 8 else 8)


def floats(*shape: int, low: float = -1, high: float = 1) -> np.ndarray:
    return rng.uniform(low, high, shape).astype(F)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=I64)


CASES: list[Case] = []
UNSUPPORTED: list[Case] = []


def case(name: str, op: str, *inputs: Any, **options: Any) -> None:
    """Options that are no field of a case are attributes of the node."""
    CASES.append(_case(name, op, inputs, options))


def unsupported(name: str, complaint: str, op: str, *inputs: Any, **options: Any) -> None:
    """A case that has to be refused with a message that holds `complaint`."""
    UNSUPPORTED.append(_case(name, op, inputs, {"complaint": complaint, **options}))


def _case(name: str, op: str, inputs: Sequence[Any], options: dict[str, Any]) -> Case:
    fields = {
        key: options.pop(key)
        for key in ("opset", "oracle", "outputs", "before", "domain", "complaint")
        if key in options
    }
    return Case(f"{op}_{name}", op, tuple(inputs), options, **fields)


# ---------------------------------------------------------------------------------------------- convolution

for name, kernel, attributes in (
    ("1x1", (1, 1), {}),
    ("3x3", (3, 3), {}),
    ("3x3_padded", (3, 3), {"pads": [1, 1, 1, 1]}),
    ("asymmetric_pads", (3, 2), {"pads": [0, 1, 2, 1]}),
    ("stride", (3, 3), {"strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("stride_beyond_kernel", (2, 1), {"strides": [3, 2]}),
    ("stride_1x1", (1, 1), {"strides": [2, 2]}),
    ("dilation", (3, 2), {"dilations": [2, 3]}),
    ("dilation_stride_pads", (2, 3), {"dilations": [2, 1], "strides": [1, 2], "pads": [1, 0, 0, 2]}),
    ("whole_picture", (6, 7), {}),
    ("same_upper", (3, 2), {"auto_pad": "SAME_UPPER"}),
    ("same_lower", (2, 4), {"auto_pad": "SAME_LOWER"}),
    ("same_upper_stride", (3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    ("same_lower_stride", (4, 3), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    ("valid", (3, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
    ("notset", (3, 3), {"auto_pad": "NOTSET", "pads": [1, 0, 1, 0]}),
):
    case(name, "Conv", X(3, 6, 7), floats(4, 3, *kernel), floats(4), kernel_shape=kernel, **attributes)
case("no_bias_no_kernel_shape", "Conv", X(2, 5, 5), floats(3, 2, 3, 3))
case("groups", "Conv", X(4, 5, 6), floats(6, 2, 3, 3), floats(6), group=2, pads=[1, 1, 1, 1])
case("groups_1x1", "Conv", X(6, 3, 3), floats(3, 2, 1, 1), group=3)
case("groups_whole_picture", "Conv", X(4, 3, 3), floats(4, 2, 3, 3), group=2)
case("depthwise", "Conv", X(4, 6, 5), floats(4, 1, 3, 3), floats(4), group=4, pads=[1, 1, 1, 1], strides=[2, 1])
case("depthwise_multiplier", "Conv", X(3, 5, 5), floats(6, 1, 2, 2), group=3)
case("depthwise_dilated", "Conv", X(3, 7, 7), floats(3, 1, 3, 3), group=3, dilations=[2, 2], auto_pad="SAME_UPPER")
case("1d", "Conv", X(3, 9), floats(4, 3, 3), floats(4))
case("1d_stride_pads", "Conv", X(2, 9), floats(4, 2, 4), strides=[2], pads=[1, 2])
case("1d_dilation", "Conv", X(2, 9), floats(2, 2, 3), dilations=[3], pads=[3, 3])
case("1d_same_lower", "Conv", X(2, 9), floats(2, 2, 4), auto_pad="SAME_LOWER", strides=[2])
case("1d_depthwise", "Conv", X(4, 8), floats(4, 1, 3), group=4)
for opset in (6, 7, 11, 22):
    case(f"opset{opset}", "Conv", X(2, 5, 5), floats(3, 2, 3, 3), floats(3), opset=opset, pads=[1, 1, 1, 1])

# ---------------------------------------------------------------------------------------------- matrices

case("plain", "Gemm", X(6), floats(6, 4))
case("trans_b", "Gemm", X(6), floats(4, 6), floats(4), transB=1)
case("alpha_beta", "Gemm", X(6), floats(6, 4), floats(4), alpha=0.5, beta=-1.5)
case("trans_b_alpha_beta", "Gemm", X(5), floats(3, 5), floats(1, 3), transB=1, alpha=-2.0, beta=0.25)
case("bias_1x1", "Gemm", X(6), floats(6, 4), floats(1, 1))
case("bias_1", "Gemm", X(6), floats(6, 4), floats(1))
case("bias_scalar", "Gemm", X(6), floats(6, 4), floats())
case("one_output", "Gemm", X(6), floats(1, 6), floats(1), transB=1)
case("opset6_broadcast", "Gemm", X(6), floats(6, 4), floats(4), opset=6, broadcast=1)
case("opset6_no_broadcast", "Gemm", X(6), floats(6, 4), floats(1, 4), opset=6)
for opset in (7, 9, 11, 13):
    case(f"opset{opset}", "Gemm", X(6), floats(4, 6), floats(4), opset=opset, transB=1, alpha=0.5)
case("rank2", "MatMul", X(6), floats(6, 4))
case("rank3", "MatMul", X(5, 6), floats(6, 4))
case("rank4", "MatMul", X(2, 3, 4), floats(4, 5))
for opset in (6, 9, 13):
    case(f"opset{opset}", "MatMul", X(3, 6), floats(6, 2), opset=opset)


# ---------------------------------------------------------------------------------------------- scale and offset


def normalization(channels: int) -> tuple[np.ndarray, ...]:
    return floats(channels), floats(channels), floats(channels), floats(channels, low=0.5, high=2)


case("4d", "BatchNormalization", X(3, 4, 4), *normalization(3))
case("3d", "BatchNormalization", X(3, 5), *normalization(3))
case("2d", "BatchNormalization", X(5), *normalization(5))
case("epsilon", "BatchNormalization", X(3, 2, 2), *normalization(3), epsilon=0.1, momentum=0.5)
for opset in (14, 15):
    case(f"opset{opset}", "BatchNormalization", X(3, 4, 4), *normalization(3), opset=opset)
# The reference evaluator normalizes with the batch's own statistics here, or not at all in opset 6.
case("opset7", "BatchNormalization", X(3, 4, 4), *normalization(3), opset=7, spatial=1, oracle="onnxruntime")
case("opset9", "BatchNormalization", X(3, 4, 4), *normalization(3), opset=9, oracle="onnxruntime")
old = [array.reshape(3, 1, 1) for array in normalization(3)]
case(
    "opset6",
    "BatchNormalization",
    X(3, 4, 4),
    *(array.ravel() for array in old),
    opset=6,
    is_test=1,
    spatial=1,
    oracle=lambda x: (x - old[2]) / np.sqrt(old[3] + 1e-5) * old[0] + old[1],
)
case("training_mode_off", "BatchNormalization", X(3, 4, 4), *normalization(3), training_mode=0)


def by_constant(function: Callable[..., np.ndarray], constant: np.ndarray, x: np.ndarray) -> np.ndarray:
    return function(x, constant)


for op in ("Add", "Sub", "Mul", "Div"):
    positive = {"low": 0.5, "high": 2.0}
    for name, shape in (
        ("scalar", ()),
        ("one", (1,)),
        ("last_axis", (5,)),
        ("channels", (3, 1, 1)),
        ("channels_and_batch", (1, 3, 1, 1)),
        ("rows", (4, 1)),
        ("everything", (3, 4, 5)),
    ):
        case(f"constant_{name}", op, X(3, 4, 5), floats(*shape, **positive))
    if op != "Div":
        case("constant_first", op, floats(3, 1, 1), X(3, 4, 5))
    case("constant_rank1", op, X(6), floats(6, **positive))
    case("constant_rank2", op, X(4, 6), floats(4, 1, **positive))
    case("opset6_broadcast_end", op, X(3, 4, 5), floats(5, **positive), opset=6, broadcast=1)
    constant = floats(5, **positive)
    case("opset6_broadcast_axis3", op, X(3, 4, 5), constant, opset=6, broadcast=1, axis=3)
    for axis, sizes in ((1, (3,)), (1, (3, 4)), (2, (4,)), (2, (4, 5)), (1, (3, 4, 5))):
        constant = floats(*sizes, **positive)
        aligned = constant.reshape(*sizes, *(1,) * (4 - axis - len(sizes)))
        oracle = partial(
            by_constant, {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[op], aligned
        )
        case(
            f"opset6_axis{axis}_of_{len(sizes)}",
            op,
            X(3, 4, 5),
            constant,
            opset=6,
            oracle=oracle,
            broadcast=1,
            axis=axis,
        )
    for opset in (7, 13, 14):
        case(f"constant_opset{opset}", op, X(3, 4, 5), floats(3, 1, 1, **positive), opset=opset)
for op in ("Add", "Sub"):
    case("computed", op, X(3, 4, 5), X(3, 4, 5))
    case("computed_rank1", op, X(6), X(6))
    case("computed_opset7", op, X(3, 4), X(3, 4), opset=7)
    case("computed_opset6", op, X(3, 4), X(3, 4), opset=6)
for count in (1, 2, 3, 5):
    case(f"of_{count}", "Sum", *[X(3, 4)] * count)
case("opset6", "Sum", X(4), X(4), X(4), opset=6)
case("opset8", "Sum", X(4), X(4), opset=8)
case("constant", "Sum", X(3, 4), floats(4))
case("constants", "Sum", floats(3, 1), X(3, 4), floats(4), X(3, 4), floats())

# ---------------------------------------------------------------------------------------------- element by element

case("plain", "Relu", X(3, 4, 4))
case("rank1", "Relu", X(7))
for opset in (6, 13, 14):
    case(f"opset{opset}", "Relu", X(3, 4), opset=opset)
case("both", "Clip", X(3, 4), np.array(-0.25, F), np.array(0.75, F))
case("relu6", "Clip", X(3, 4), np.array(0, F), np.array(6, F))
case("low_only", "Clip", X(3, 4), np.array(-0.3, F))
case("high_only", "Clip", X(3, 4), None, np.array(0.3, F))
case("open", "Clip", X(3, 4))
case("largest_floats", "Clip", X(3, 4), np.array(np.finfo(F).min, F), np.array(np.finfo(F).max, F))
case("infinite", "Clip", X(3, 4), np.array(-np.inf, F), np.array(np.inf, F))
case("infinite_high", "Clip", X(3, 4), np.array(-0.25, F), np.array(np.inf, F))
case("infinite_low", "Clip", X(3, 4), np.array(-np.inf, F), np.array(0.25, F))
case("above_zero", "Clip", X(3, 4), np.array(0.25, F), np.array(0.5, F))
case("below_zero", "Clip", X(3, 4), np.array(-0.5, F), np.array(-0.25, F))
case("opset6_both", "Clip", X(3, 4), opset=6, min=-0.5, max=0.25)
case("opset6_low", "Clip", X(3, 4), opset=6, min=0.0)
case("opset6_high", "Clip", X(3, 4), opset=6, max=0.5)
case("opset6_open", "Clip", X(3, 4), opset=6)
for opset in (11, 12, 13):
    case(f"opset{opset}", "Clip", X(3, 4), np.array(-0.5, F), np.array(0.5, F), opset=opset)
case("default", "LeakyRelu", X(3, 4, 4))
case("slope", "LeakyRelu", X(3, 4, 4), alpha=0.3)
case("steep", "LeakyRelu", X(5), alpha=3.0)
case("very_steep", "LeakyRelu", X(5), alpha=300.0)
case("negative", "LeakyRelu", X(5), alpha=-0.5)
case("zero", "LeakyRelu", X(5), alpha=0.0)
case("opset6", "LeakyRelu", X(3, 4), opset=6, alpha=0.1)
case("opset16", "LeakyRelu", X(3, 4), opset=16, alpha=0.1)
for name, shape in (
    ("channels", (3, 1, 1)),
    ("channels_and_batch", (1, 3, 1, 1)),
    ("one", (1,)),
    ("scalar", ()),
    ("last_axis", (5,)),
    ("everything", (3, 4, 5)),
    ("rows", (4, 1)),
):
    case(name, "PRelu", X(3, 4, 5), floats(*shape))
case("rank1", "PRelu", X(6), floats(6))
case("old_channels", "PRelu", X(3, 4, 5), floats(3), opset=6)
for opset in (7, 9, 16):
    case(f"opset{opset}", "PRelu", X(3, 4, 5), floats(3, 1, 1), opset=opset)
for op in ("Sigmoid", "Tanh"):
    case("plain", op, X(3, 4, 4))
    case("rank1", op, X(9))
    for opset in (6, 13):
        case(f"opset{opset}", op, X(5), opset=opset)
case("default", "Softmax", X(7))
case("one_class", "Softmax", X(3, 1))
case("last", "Softmax", X(3, 4), axis=-1)
case("middle", "Softmax", X(3, 4), axis=1)
case("channels", "Softmax", X(3, 4, 5), axis=1)
case("rows", "Softmax", X(3, 4, 5), axis=-2)
case("columns", "Softmax", X(3, 4, 5), axis=3)
case("opset6_flat", "Softmax", X(7), opset=6, axis=1)
case("opset11_flat", "Softmax", X(3, 2, 2), opset=11, axis=1, oracle="onnxruntime")  # the evaluator does not flatten
case("opset11_last", "Softmax", X(3, 4), opset=11, axis=2)
case("opset13", "Softmax", X(7), opset=13)


def local_response(x: np.ndarray, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> np.ndarray:
    """ONNX's formula: its evaluator visits as many channels as there are rows, and onnxruntime takes rank 4 only."""
    channels, squares = x.shape[1], x.astype(float) ** 2
    first = [max(0, c - (size - 1) // 2) for c in range(channels)]
    last = [min(channels - 1, c + size // 2) for c in range(channels)]
    total = np.stack([squares[:, a : b + 1].sum(axis=1) for a, b in zip(first, last, strict=True)], axis=1)
    return np.asarray(x / (bias + alpha / size * total) ** beta)


for name, shape, options in (
    ("default", (6, 3, 2), {"size": 3}),
    ("strong", (7, 3, 3), {"size": 5, "alpha": 3.0, "bias": 0.5}),
    ("decades", (7, 3, 3), {"size": 3, "alpha": 2000.0, "beta": 0.5, "bias": 0.001}),
    ("even", (5, 4), {"size": 4, "alpha": 0.5, "beta": 1.0, "bias": 2.0}),
    ("one", (5, 4), {"size": 1, "alpha": 1.0}),
    ("beyond", (3, 4, 2), {"size": 9, "alpha": 1.0, "beta": 2.0}),
    ("negative_beta", (3, 4), {"size": 3, "alpha": 1.0, "beta": -0.5}),
    ("weak", (3, 4), {"size": 3, "alpha": 1e-20, "bias": 2.0}),
    ("rank1", (8,), {"size": 3, "alpha": 1.0}),
):
    case(name, "LRN", X(*shape), oracle=partial(local_response, **options), **options)
case("onnxruntime", "LRN", X(9, 4, 4), size=5, alpha=0.3, beta=0.75, bias=1.0, oracle="onnxruntime")
case("opset6", "LRN", X(5, 2, 2), opset=6, size=3, alpha=0.1, oracle=partial(local_response, size=3, alpha=0.1))

# ---------------------------------------------------------------------------------------------- two computed tensors

for op in ("Mul", "Add", "Sub", "Max", "Min"):
    case("two_computed", op, X(3, 4, 5), X(3, 4, 5))
    case("excite", op, X(3, 4, 5), X(3, 1, 1))
    case("excite_first", op, X(3, 1, 1), X(3, 4, 5))
    case("one_channel", op, X(3, 4, 5), X(1, 4, 5))
    case("rows", op, X(3, 4, 5), X(1, 1, 5))
    case("both_grow", op, X(3, 1, 5), X(1, 4, 1))
    case("rank1", op, X(5), X(1))
    case("rank4", op, X(2, 3, 1, 4), X(2, 1, 2, 1))
case("square", "Mul", X(4), "x0")
case("broadcast", "Sum", X(3, 4), X(1, 4))
for op in ("Max", "Min"):
    case("three", op, X(3, 4), X(3, 4), X(3, 1))
    case("number", op, X(3, 4), np.array(0.25, F))
    case("number_first", op, np.array([0.25], F), X(3, 4))
    case("constant", op, X(3, 4), floats(3, 1))
    case("constant_and_two", op, X(3, 4), floats(1, 4), X(3, 4))
    case("one", op, X(3, 4))
    case("infinite", op, X(3, 4), np.array(np.inf if op == "Min" else -np.inf, F))
    case("opset8", op, X(3, 4), X(3, 4), opset=8)
case("channels", "Expand", X(3, 1, 1), ints(1, 3, 4, 5))
case("lower_rank", "Expand", X(3, 1), ints(3, 4))
case("ones", "Expand", X(3, 4), ints(1, 1, 1))

# ---------------------------------------------------------------------------------------------- reductions

for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"):
    for name, axes in (("picture", (2, 3)), ("channels", (1,)), ("row", (-1,)), ("apart", (1, 3)), ("all", (1, 2, 3))):
        case(name, op, X(3, 4, 5), ints(*axes), opset=18)
        if name != "all":
            case(f"{name}_dropped", op, X(3, 4, 5), ints(*axes), keepdims=0)
    case("rank2", op, X(3, 4), ints(2))
    case("rank4", op, X(2, 3, 2, 4), ints(2, 4), keepdims=0)
    case("noop", op, X(3, 4), noop_with_empty_axes=1)
    case("old", op, X(3, 4, 5), opset=11, axes=[2, 3], keepdims=1)

# ---------------------------------------------------------------------------------------------- sizes

for name, scales, options in (
    ("nearest", (2.0, 3.0), {"mode": "nearest"}),
    ("nearest_asymmetric", (2.0, 2.0), {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ("nearest_down", (0.5, 0.6), {"mode": "nearest"}),
    ("nearest_ceil", (1.75, 0.8), {"nearest_mode": "ceil", "coordinate_transformation_mode": "align_corners"}),
    ("nearest_prefer_ceil", (1.5, 2.5), {"nearest_mode": "round_prefer_ceil"}),
    ("linear", (2.0, 2.0), {"mode": "linear"}),
    ("linear_corners", (2.0, 1.6), {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ("linear_pytorch", (1.5, 0.4), {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ("linear_asymmetric", (3.0, 2.0), {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}),
    ("linear_down", (0.6, 0.6), {"mode": "linear"}),
    ("linear_symmetric", (1.3, 2.0), {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}),
    ("cubic", (2.0, 2.0), {"mode": "cubic"}),
    ("linear_antialias", (0.6, 0.5), {"mode": "linear", "antialias": 1}),
    ("cubic_antialias", (0.6, 1.5), {"mode": "cubic", "antialias": 1}),
    ("cubic_outside", (1.5, 0.8), {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}),
):
    opset = 19 if "symmetric" in name and "asymmetric" not in name else 18
    case(name, "Resize", X(3, 4, 5), None, np.array([1, 1, *scales], F), opset=opset, **options)
case("sizes", "Resize", X(3, 4, 5), None, None, ints(1, 3, 7, 8), mode="linear")
case("axes", "Resize", X(3, 4, 5), None, None, ints(7, 8), axes=[2, 3], mode="nearest")
case(
    "crop",
    "Resize",
    *(X(3, 4, 5), np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.2], F), None, ints(1, 3, 4, 6)),
    mode="linear",
    coordinate_transformation_mode="tf_crop_and_resize",
)
case("1d", "Resize", X(3, 5), None, np.array([1, 1, 2], F), mode="linear")
case("opset10", "Resize", X(3, 4, 5), np.array([1, 1, 2, 2], F), opset=10, mode="nearest", oracle="onnxruntime")
case("opset11", "Resize", X(3, 4, 5), np.zeros(0, F), np.array([1, 1, 2, 2], F), opset=11, mode="linear")
case("opset10_down", "Resize", X(3, 7, 5), np.array([1, 1, 0.6, 1.5], F), opset=10, oracle="onnxruntime")
for mode in ("nearest", "linear"):
    case(mode, "Upsample", X(2, 3, 4), np.array([1, 1, 2, 3], F), opset=9, mode=mode, oracle="onnxruntime")
for name, kernel, options in (
    ("plain", (3, 3), {}),
    ("stride", (3, 2), {"strides": [2, 3]}),
    ("stride_below", (2, 2), {"strides": [3, 2]}),
    ("pads", (4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("many_pads", (5, 4), {"strides": [2, 1], "pads": [3, 1, 2, 3]}),
    ("output_padding", (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ("output_shape", (3, 3), {"strides": [3, 2], "output_shape": [10, 8]}),
    ("dilation", (2, 3), {"strides": [2, 1], "dilations": [2, 3]}),
    ("same_upper", (3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("same_lower", (3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
):
    oracle = "onnxruntime" if "output_shape" in options else "reference"
    case(name, "ConvTranspose", X(3, 3, 4), floats(3, 2, *kernel), floats(2), oracle=oracle, **options)
case("no_bias", "ConvTranspose", X(2, 3, 3), floats(2, 3, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
case(
    "groups", "ConvTranspose", X(4, 3, 3), floats(4, 3, 3, 3), floats(6), group=2, strides=[2, 2], oracle="onnxruntime"
)
case("depthwise", "ConvTranspose", X(4, 3, 3), floats(4, 1, 3, 3), group=4, strides=[2, 2], oracle="onnxruntime")
case("1d", "ConvTranspose", X(3, 5), floats(3, 2, 4), floats(2), strides=[2], pads=[1, 1], oracle="onnxruntime")
case("opset11", "ConvTranspose", X(2, 3, 3), floats(2, 3, 2, 2), opset=11, strides=[2, 2])
for mode in ("DCR", "CRD"):
    case(mode, "DepthToSpace", X(8, 2, 3), blocksize=2, mode=mode)
case(
    "opset6",
    "DepthToSpace",
    X(9, 2, 2),
    blocksize=3,
    opset=6,
    oracle=lambda x: x.reshape(-1, 3, 3, 1, 2, 2).transpose(0, 3, 4, 1, 5, 2).reshape(-1, 1, 6, 6),
)
case("plain", "SpaceToDepth", X(2, 4, 6), blocksize=2)
case("equal", "Split", X(6, 4), axis=1, num_outputs=2, outputs=2)
case("uneven", "Split", X(7, 4), axis=1, num_outputs=2, outputs=2)
case("sizes", "Split", X(3, 5), ints(1, 4), axis=-1, outputs=2)
case("rank4", "Split", X(2, 4, 3, 2), ints(1, 3), axis=2, outputs=2)
case("opset11", "Split", X(6, 4), opset=11, axis=1, split=[4, 2], outputs=2)
for name, values in (("run", (1, 2)), ("jumps", (3, 0, 1)), ("negative", (-1, 0)), ("repeated", (2, 2))):
    case(name, "Gather", X(4, 3), ints(*values), axis=1)
case("scalar", "Gather", X(4, 3), np.array(2), axis=1)
case("matrix", "Gather", X(4, 3), ints(0, 2, 1, 3).reshape(2, 2), axis=1)
case("last", "Gather", X(4, 3, 5), ints(4, 1), axis=-1)
case("rank4", "Gather", X(2, 4, 3, 2), ints(2, 0), axis=2)

# ---------------------------------------------------------------------------------------------- curves

for op in ("Abs", "Neg", "Sign", "Exp", "Erf", "Softsign", "HardSigmoid", "HardSwish", "Elu", "Selu", "Softplus"):
    case("plain", op, X(3, 4))
case("plain", "Celu", X(3, 4), alpha=2.0)
case("plain", "Mish", X(3, 4))
case("plain", "Gelu", X(3, 4), opset=20)
case("tanh", "Gelu", X(3, 4), opset=20, approximate="tanh")
case("plain", "Swish", X(3, 4), opset=24, alpha=1.5, oracle=lambda x: x / (1 + np.exp(-1.5 * x)))
case("alpha", "HardSigmoid", X(3, 4), alpha=0.5, beta=0.6)
case("alpha", "Elu", X(3, 4), alpha=0.5)
case("alpha", "Selu", X(3, 4), alpha=1.5, gamma=2.0)
case("plain", "ThresholdedRelu", X(3, 4), alpha=0.5, oracle=lambda x: np.where(x > 0.5, x, 0))

# ---------------------------------------------------------------------------------------------- sorting, normalizing

for op in ("ArgMax", "ArgMin"):
    case("last", op, X(3, 7), axis=-1)
    case("dropped", op, X(3, 7), axis=2, keepdims=0)
    case("channels", op, X(5, 3, 2), axis=1)
    case("opset11", op, X(9), axis=1, opset=11)
case("last_of_equals", "ArgMax", X(3, 4), axis=2, select_last_index=1)
case("values", "TopK", X(3, 7), ints(3), outputs=2)
case("smallest", "TopK", X(3, 7), ints(2), largest=0, outputs=2)
case("channels", "TopK", X(6, 2, 3), ints(2), axis=1, outputs=2)
case("opset10", "TopK", X(8), ints(3), opset=10, axis=1, outputs=2)
case("attention", "MatMul", X(3, 4), X(4, 5))
case("vector", "MatMul", X(3, 4), floats(4))
case("heads", "MatMul", X(2, 3, 4), X(2, 4, 3))
case("one_head", "MatMul", X(2, 3, 4), X(1, 4, 2))
case("last", "LayerNormalization", X(3, 8), floats(8), floats(8), axis=-1)
case("no_bias", "LayerNormalization", X(8), floats(8, low=0.5), epsilon=1e-3)
case("two_axes", "LayerNormalization", X(3, 4, 2), floats(4, 2), floats(4, 2), axis=2)
case("last", "RMSNormalization", X(3, 8), floats(8), opset=23, axis=-1)
case("2d", "InstanceNormalization", X(3, 4, 5), floats(3), floats(3))
case("1d", "InstanceNormalization", X(3, 9), floats(3), floats(3), epsilon=1e-2)
case("channels", "GroupNormalization", X(4, 3, 3), floats(4), floats(4), opset=21, num_groups=2)
case("groups", "GroupNormalization", X(4, 3, 3), floats(2), floats(2), opset=18, num_groups=2)

# ---------------------------------------------------------------------------------------------- sequences

for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    cell = (floats(1, gates * 4, 3), floats(1, gates * 4, 4))
    case("layout1", op, X(5, 3), *cell, floats(1, 8 * gates), hidden_size=4, layout=1, outputs=2)
    case("no_bias", op, X(1, 3), *cell, hidden_size=4, layout=1, outputs=2)
gru = (floats(1, 12, 3), floats(1, 12, 4), floats(1, 24))
case("linear_before_reset", "GRU", X(4, 3), *gru, hidden_size=4, layout=1, linear_before_reset=1, outputs=2)

# ---------------------------------------------------------------------------------------------- pooling

# The reference evaluator's maximum takes pads in another order and SAME_LOWER for a smaller output.
KNOWS = {"MaxPool": "onnxruntime", "AveragePool": "reference"}
for op in ("MaxPool", "AveragePool"):
    for name, kernel, attributes in (
        ("2x2", (2, 2), {"strides": [2, 2]}),
        ("overlapping", (3, 3), {"strides": [2, 1]}),
        ("padded", (3, 3), {"pads": [1, 1, 1, 1]}),
        ("asymmetric_pads", (3, 2), {"pads": [0, 1, 2, 0], "strides": [2, 2]}),
        ("ceil", (2, 2), {"strides": [2, 2], "ceil_mode": 1}),
        ("ceil_padded", (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        ("ceil_long_stride", (2, 2), {"strides": [4, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
        ("same_upper", (2, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("same_lower", (2, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        ("same_upper_stride1", (2, 2), {"auto_pad": "SAME_UPPER"}),
        ("same_lower_stride1", (2, 2), {"auto_pad": "SAME_LOWER"}),
        ("valid", (2, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
        ("whole_picture", (7, 6), {}),
        ("whole_row", (1, 6), {}),
    ):
        case(name, op, X(2, 7, 6), kernel_shape=kernel, oracle=KNOWS[op], **attributes)
        if op == "AveragePool":
            case(f"{name}_counted", op, X(2, 7, 6), kernel_shape=kernel, count_include_pad=1, **attributes)
    case("1d", op, X(3, 9), kernel_shape=[3], strides=[2])
    case("1d_padded", op, X(3, 9), kernel_shape=[3], strides=[2], pads=[0, 2])
    case("1d_ceil", op, X(3, 9), kernel_shape=[2], strides=[2], ceil_mode=1)
    case("1d_same_lower", op, X(3, 9), kernel_shape=[2], strides=[2], auto_pad="SAME_LOWER", oracle=KNOWS[op])
    for opset in (7, 10, 11, 22):
        case(f"opset{opset}", op, X(2, 5, 5), opset=opset, oracle=KNOWS[op], kernel_shape=[2, 2], pads=[1, 0, 1, 0])
case("1d_padded_counted", "AveragePool", X(3, 9), kernel_shape=[3], strides=[2], pads=[1, 2], count_include_pad=1)
case("1d_ceil_counted", "AveragePool", X(3, 9), kernel_shape=[2], strides=[2], ceil_mode=1, count_include_pad=1)
case("dilation", "MaxPool", X(2, 7, 6), kernel_shape=[2, 3], dilations=[3, 2])
case("dilation_ceil", "MaxPool", X(2, 7, 6), kernel_shape=[2, 2], dilations=[2, 2], strides=[2, 2], ceil_mode=1)
case("3d", "MaxPool", X(2, 5, 4, 6), kernel_shape=[3, 2, 2], strides=[2, 1, 2], oracle="onnxruntime")
case("3d_padded", "MaxPool", X(2, 4, 5, 5), kernel_shape=[2, 3, 3], pads=[1, 0, 1, 0, 2, 1], oracle="onnxruntime")
case(
    "3d_dilated", "MaxPool", X(2, 5, 5, 5), kernel_shape=[2, 2, 2], dilations=[2, 2, 1], ceil_mode=1, strides=[2, 2, 2]
)
for name, counts in (("3d", 0), ("3d_counted", 1)):
    options = {"pads": [1, 0, 1, 0, 1, 1], "ceil_mode": 1, "count_include_pad": counts, "strides": [2, 2, 1]}
    case(name, "AveragePool", X(2, 4, 5, 4), kernel_shape=[2, 3, 2], **options)
case("storage_order", "MaxPool", X(2, 4, 4), kernel_shape=[2, 2], storage_order=1)
case("opset12", "MaxPool", X(2, 5, 5), opset=12, kernel_shape=[2, 2], strides=[2, 2])
case("dilation", "AveragePool", X(2, 7, 6), opset=19, kernel_shape=[2, 3], dilations=[2, 2])
case("dilation_padded", "AveragePool", X(2, 7, 6), opset=19, kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1])
for op in ("GlobalMaxPool", "GlobalAveragePool"):
    case("2d", op, X(3, 4, 5))
    case("1d", op, X(3, 7), oracle="onnxruntime")  # the evaluator's maximum drops an axis
    case("one_pixel", op, X(3, 1, 1))
    case("opset6", op, X(2, 3, 3), opset=6)
    case("opset22", op, X(2, 3, 3), opset=22)

# ---------------------------------------------------------------------------------------------- moving elements

for axis in (1, 2, 3, -1, -3):
    sizes = [3, 4, 5]
    sizes[axis % 4 - 1] += 1
    case(f"axis{axis}", "Concat", X(3, 4, 5), X(*sizes), axis=axis)
case("three", "Concat", X(2, 3), X(4, 3), X(1, 3), axis=1)
case("one", "Concat", X(2, 3), axis=1)
case("rank1", "Concat", X(5), X(3), axis=1)
case("opset6", "Concat", X(2, 3), X(2, 3), opset=6, axis=2)
case("plain", "Flatten", X(3, 4, 5))
case("axis1", "Flatten", X(3, 4), axis=1)
case("negative_axis", "Flatten", X(3, 4, 5), axis=-3)
case("axis0_of_one_sample", "Flatten", X(3, 4), axis=0)
for opset in (6, 9, 11, 13, 21):
    case(f"opset{opset}", "Flatten", X(3, 4), opset=opset)
for name, shape in (
    ("minus_one", (-1, 12)),
    ("zero_minus_one", (0, -1)),
    ("one_minus_one", (1, -1)),
    ("zeros", (0, 0, -1)),
    ("split", (-1, 3, 2, 2)),
    ("zero_split", (0, 6, 2)),
    ("same", (0, 3, 4)),
    ("minus_one_inside", (0, 2, -1, 3)),
    ("grow", (-1, 1, 3, 4, 1)),
):
    case(name, "Reshape", X(3, 4), ints(*shape))
case("opset6", "Reshape", X(3, 4), ints(0, -1), opset=6)
case("opset13", "Reshape", X(3, 4), ints(-1, 2, 6), opset=13)
case("allowzero", "Reshape", X(3, 4), ints(-1, 12), opset=14, allowzero=1)
case("axes", "Squeeze", X(1, 3, 1), ints(1, 3))
case("negative_axis", "Squeeze", X(1, 3, 1), ints(-1))
case("no_axes", "Squeeze", X(1, 3, 1), oracle=lambda x: x.reshape(len(x), 3))  # the batch stays, whatever its size
case("opset6", "Squeeze", X(1, 3, 1), opset=6, axes=[1])
case("opset11", "Squeeze", X(3, 1, 1), opset=11, axes=[2, 3])
case("axes", "Unsqueeze", X(3, 4), ints(1, 3))
case("negative_axis", "Unsqueeze", X(3, 4), ints(-1))
case("opset6", "Unsqueeze", X(3, 4), opset=6, axes=[2])
case("opset11", "Unsqueeze", X(3, 4), opset=11, axes=[-1, 1])
for perm in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 3, 2, 1), (0, 1, 2, 3)):
    case("".join(map(str, perm)), "Transpose", X(3, 4, 5), perm=perm)
case("rank2", "Transpose", X(3, 4), perm=[0, 2, 1])
case("rank4", "Transpose", X(2, 3, 1, 4), perm=[0, 4, 2, 1, 3])
case("opset6", "Transpose", X(3, 4), opset=6, perm=[0, 2, 1])
for axis in (1, 2, 3):
    pads = [0] * 8
    pads[axis], pads[axis + 4] = 2, 1
    case(f"axis{axis}", "Pad", X(3, 4, 5), ints(*pads))
case("all", "Pad", X(3, 4, 5), ints(0, 1, 2, 3, 0, 3, 2, 1))
case("value", "Pad", X(3, 4, 5), ints(0, 0, 1, 1, 0, 0, 1, 1), np.array(0.5, F))
case("value_out_of_range", "Pad", X(3, 4), ints(0, 1, 0, 0, 0, 1), np.array(-9.0, F))
case("nothing", "Pad", X(3, 4), ints(0, 0, 0, 0, 0, 0))
case("rank1", "Pad", X(4), ints(0, 1, 0, 2))
case("axes", "Pad", X(3, 4, 5), ints(1, 0, 2, 1), None, ints(3, 1))
case("negative_axes", "Pad", X(3, 4, 5), ints(1, 2), np.array(0.25, F), ints(-1))
case("opset6", "Pad", X(3, 4), opset=6, pads=[0, 1, 0, 0, 0, 2], value=0.5)
case("opset6_default_value", "Pad", X(3, 4), opset=6, pads=[0, 1, 0, 0, 0, 2], mode="constant")
case("opset11", "Pad", X(3, 4), ints(0, 1, 0, 0, 0, 2), opset=11)
case("opset13", "Pad", X(3, 4), ints(0, 1, 0, 0, 0, 2), np.array(-0.5, F), opset=13)
for mode in ("edge", "reflect"):
    case(mode, "Pad", X(3, 4, 5), ints(0, 1, 2, 0, 0, 0, 1, 2), mode=mode)
    case(f"{mode}_rank4", "Pad", X(2, 3, 2, 3), ints(0, 0, 1, 0, 1, 0, 0, 1, 0, 1), mode=mode)
case("wrap", "Pad", X(3, 4), ints(0, 1, 2, 0, 0, 3), mode="wrap", opset=19)
unsupported("mode", "mode 'odd'", "Pad", X(3, 4), ints(0, 1, 0, 0, 1, 0), mode="odd")
BIG = 2**31 - 1
for name, arguments in (
    ("one_axis", ([1], [3], [2])),
    ("two_axes", ([1, 0], [3, 4], [1, 3])),
    ("negative_start", ([-3], [BIG], [3])),
    ("negative_end", ([1], [-1], [2])),
    ("negative_axis", ([1], [2], [-1])),
    ("step", ([0], [BIG], [3], [2])),
    ("steps", ([1, 0, 1], [4, 4, 5], [1, 2, 3], [1, 3, 2])),
    ("beyond", ([0], [999], [1])),
    ("whole_batch", ([0, 1], [BIG, 3], [0, 1])),
):
    case(name, "Slice", X(4, 5, 6), *(ints(*values) for values in arguments))
case("backwards", "Slice", X(4, 5), ints(-1, 0), ints(-9, 3), ints(1, 2), ints(-1, 1))
case("backwards_by_two", "Slice", X(4, 5), ints(4), ints(0), ints(2), ints(-2))
case("no_axes", "Slice", X(4, 5), ints(0, 1, 2), ints(BIG, 3, 4))
case("rank1", "Slice", X(9), ints(2), ints(8), ints(1), ints(2))
case("opset6", "Slice", X(4, 5), opset=6, starts=[1, -3], ends=[3, 5], axes=[1, 2])
case("opset6_no_axes", "Slice", X(4, 5), opset=6, starts=[0, 1], ends=[BIG, 3])
case("opset10", "Slice", X(4, 5), ints(1), ints(4), ints(2), ints(2), opset=10)
case("opset13", "Slice", X(4, 5), ints(-2), ints(BIG), ints(1), opset=13)

# ---------------------------------------------------------------------------------------------- nothing at all

case("plain", "Identity", X(3, 4))
case("opset6", "Identity", X(3, 4), opset=6)
case("plain", "Dropout", X(3, 4))
case("ratio", "Dropout", X(3, 4), np.array(0.25, F), np.array(False), seed=3)
case("opset6", "Dropout", X(3, 4), opset=6, ratio=0.3, is_test=1, oracle=lambda x: x)
case("opset7", "Dropout", X(3, 4), opset=7, ratio=0.3)
case("opset12", "Dropout", X(3, 4), np.array(0.5, F), opset=12)


def constant_of_shape(*shape: int, value: float | None) -> tuple[onnx.NodeProto, ...]:
    tensor = {} if value is None else {"value": helper.make_tensor("value", TensorProto.FLOAT, [1], [value])}
    return (
        helper.make_node("Constant", [], ["sizes"], value=numpy_helper.from_array(ints(*shape))),
        helper.make_node("ConstantOfShape", ["sizes"], ["filled"], **tensor),
    )


case("constant_of_shape", "Add", X(3, 4), "filled", before=constant_of_shape(3, 4, value=0.75))
case("constant_of_shape_zero", "Add", X(3, 4), "filled", before=constant_of_shape(4, value=None))
case("constant_of_shape", "Mul", X(3, 4), "filled", before=constant_of_shape(1, 3, 1, value=-0.5), opset=9)

# ---------------------------------------------------------------------------------------------- what is refused

unsupported("domain", "domain 'com.example'", "Relu", X(3), domain="com.example")
unsupported("computed_kernel", "kernel is computed", "Conv", X(2, 4, 4), X(2, 3, 3))
unsupported("3d", "3 spatial dimensions", "Conv", X(2, 4, 4, 4), floats(2, 2, 2, 2, 2))
unsupported("negative_pads", "negative padding", "Conv", X(2, 4, 4), floats(2, 2, 2, 2), pads=[-1, 0, 0, 0])
unsupported("trans_a", "transA", "Gemm", X(3), floats(3, 3), transA=1)
unsupported("computed_matrix", "matrix is computed", "Gemm", X(3), X(4))
unsupported("constant_left", "constant right side", "MatMul", floats(4, 3), X(3, 5))
unsupported("ranks", "equal ranks", "MatMul", X(2, 3, 4), X(4, 5))
unsupported("computed_scale", "scale is computed", "LayerNormalization", X(3), "x1")
unsupported("many", "1 to 256", "TopK", X(300), ints(257), outputs=2)
unsupported("rank3_constant", "two dimensions", "MatMul", X(2, 3, 4), floats(3, 4, 5))
unsupported("unknown", "not supported", "Einsum", X(3), equation="ij->ij")
unsupported("broadcast", "sample by sample", "Add", X(3, 4), X(4))
unsupported("broadcast", "sample by sample", "Mul", X(3, 4), X(2, 4))
unsupported("over_the_batch", "batch dimension", "ReduceMean", X(3, 4), ints(0))
unsupported("everything", "all axes", "ReduceSum", X(3, 4))
unsupported("nothing_left", "only the batch", "ReduceMax", X(3), ints(1), keepdims=0)
unsupported("channels", "scales", "Resize", X(3, 4, 4), None, np.array([1, 2, 2, 2], F), mode="nearest")
unsupported(
    "uneven_corners",
    "evaluators of ONNX disagree",
    "Resize",
    *(X(3, 4, 4), None, np.array([1, 1, 0.6, 1], F)),
    coordinate_transformation_mode="align_corners",
)
unsupported(
    "outside",
    "extrapolation_value",
    "Resize",
    *(X(3, 4, 4), np.array([0, 0, 0, 0, 1, 1, 2, 1], F), None, ints(1, 3, 4, 4)),
    coordinate_transformation_mode="tf_crop_and_resize",
    extrapolation_value=1.0,
)
unsupported("3d", "3 spatial dimensions", "ConvTranspose", X(2, 3, 3, 3), floats(2, 2, 2, 2, 2))
unsupported("over_the_batch", "batch dimension", "Split", X(3, 4), axis=0, num_outputs=1, outputs=1)
unsupported("computed", "is computed", "Gather", X(3, 4), "x1", axis=1)
unsupported("below", "threshold", "ThresholdedRelu", X(3), alpha=-1.0)
lstm = (floats(1, 16, 3), floats(1, 16, 4), floats(1, 32))
unsupported("batch_second", "batch is dimension 0", "LSTM", X(5, 3), *lstm, hidden_size=4)
unsupported("activations", "activations", "LSTM", X(5, 3), *lstm, hidden_size=4, layout=1, activations=["Relu"] * 3)
unsupported("clip", "attribute 'clip'", "LSTM", X(5, 3), *lstm, hidden_size=4, layout=1, clip=3.0)
unsupported("state", "initial state", "LSTM", X(5, 3), *lstm, None, floats(1, 1, 4), hidden_size=4, layout=1)
unsupported("integers", "divides integers", "Div", X(3), ints(2))
unsupported("computed_divisor", "divisor", "Div", X(3), X(3))
unsupported("growing", "changes the output's shape", "Add", X(3, 1), floats(3, 4))
unsupported("over_the_batch", "changes the output's shape", "Mul", X(3), floats(2, 3))
unsupported("training", "training mode", "BatchNormalization", X(3, 4), *normalization(3), training_mode=1, outputs=3)
unsupported("computed_statistics", "scale is computed", "BatchNormalization", X(3, 4), "x1", *normalization(3)[1:])
unsupported("computed_slope", "slope is computed", "PRelu", X(3), X(3))
unsupported("slope_over_the_batch", "slope of shape", "PRelu", X(3), floats(2, 3))
unsupported("computed_bound", "min is computed", "Clip", X(3), X(1))
unsupported("over_the_batch", "batch dimension", "Softmax", X(3), axis=0)
unsupported("opset11_axis2", "axis 2", "Softmax", X(3, 2, 2), opset=11, axis=2)
unsupported("over_the_batch", "batch dimension", "Concat", X(3), X(3), axis=0)
unsupported("constant", "is a constant", "Concat", X(3), floats(1, 3), axis=1)
unsupported("indices", "indices", "MaxPool", X(2, 4, 4), kernel_shape=[2, 2], outputs=2)
unsupported("outside", "padding altogether", "MaxPool", X(2, 3, 3), kernel_shape=[1, 1], pads=[1, 1, 1, 1])
unsupported("no_bias", "bias 0.0", "LRN", X(3, 4), size=3, bias=0.0)
unsupported("negative_alpha", "alpha -1.0", "LRN", X(3, 4), size=3, alpha=-1.0)
unsupported("outside", "padding altogether", "AveragePool", X(2, 3, 3), kernel_shape=[1, 1], pads=[1, 1, 1, 1])
unsupported("3d", "3 spatial dimensions", "GlobalAveragePool", X(2, 3, 3, 3))
unsupported("3d", "3 spatial dimensions", "GlobalMaxPool", X(2, 3, 3, 3))
unsupported("axis2", "axis 2", "Flatten", X(3, 4), axis=2)
unsupported("across_samples", "samples of a batch", "Reshape", X(3, 4), ints(-1, 6))
unsupported("to_one_axis", "samples of a batch", "Reshape", X(3, 4), ints(-1))
unsupported("computed_shape", "is computed", "Reshape", X(3, 4), "x1")
unsupported("the_batch", "batch dimension", "Squeeze", X(1, 3), ints(0))
unsupported("the_batch", "batch dimension", "Unsqueeze", X(3), ints(0))
unsupported("the_batch", "the batch in another dimension", "Transpose", X(3, 4), perm=[1, 0, 2])
unsupported("default", "the batch in another dimension", "Transpose", X(3, 4))
unsupported("the_batch", "batch dimension", "Pad", X(3, 4), ints(1, 0, 0, 0, 0, 0))
unsupported("negative", "negative pads", "Pad", X(3, 4), ints(0, -1, 0, 0, 0, 0))
unsupported("computed", "is computed", "Pad", X(3, 4), "x1")
unsupported("the_batch", "batch dimension", "Slice", X(3, 4), ints(1), ints(2), ints(0))
unsupported("one_of_the_batch", "batch dimension", "Slice", X(3, 4), ints(0), ints(1), ints(0))
unsupported("some_of_the_batch", "batch dimension", "Slice", X(3, 4), ints(0), ints(999), ints(0))
unsupported("training", "training mode", "Dropout", X(3, 4), np.array(0.5, F), np.array(True))
unsupported("computed_first", "divisor is computed", "Div", floats(3, low=1, high=2), X(3))
