"""Dilated convolutions as TensorFlow writes them, through the batch: one convolution again, in float and quantized."""

import numpy as np
import onnxruntime
import pytest

from tests.frontends.tflite_cases import RANGES, Case, check_case, litert
from tests.frontends.tflite_files import Network
from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends import read_graph
from toolchain.frontends.tflite import load
from toolchain.ops.conv import Conv
from toolchain.ops.pad import Pad

SAME, VALID = 0, 1


def geometry(rng, inner):
    """Sizes and amounts of a random pattern: the paddings of SAME or VALID, or some of its own."""
    sizes, kernel, blocks = rng.integers(5, 10, 2), rng.integers(1, 4, 2), rng.integers(1, 4, 2)
    wanted = int(rng.integers(3))
    reach = (kernel - 1) * blocks
    befores = [reach // 2, 0 * reach, rng.integers(0, 3, 2)][wanted]
    afters = [reach - reach // 2, reach if inner == VALID else 0 * reach, reach][wanted]
    afters = afters + (-(sizes + befores + afters)) % blocks
    own = reach if inner == SAME else 0 * reach
    results = sizes + befores + afters + own - reach
    crops = [(int(rng.integers(0, b + 1)), int(rng.integers(0, a + 1))) for b, a in zip(befores, afters, strict=True)]
    crops = [c if sum(c) < n else (0, 0) for c, n in zip(crops, results, strict=True)]
    if wanted == 0 and inner == VALID:
        crops = [(0, int(a)) for a in results - sizes]
    outputs = results - [sum(c) for c in crops]
    pads = list(zip(befores.tolist(), afters.tolist(), strict=True))
    return sizes.tolist(), kernel.tolist(), blocks, np.int32(pads), np.int32(crops), results // blocks, outputs.tolist()


def add_pattern(net, tensor, weights, bias, ends, fields, depthwise=False):
    """The three operators; `tensor` makes those between, `ends` are input and output."""
    blocks, pads, crops, channels, sizes = ends[2:]
    batch = int(np.prod(blocks))
    shape = net.tensors[ends[0]][1]
    inside = (batch, *((np.array(shape[1:3]) + pads.sum(1)) // blocks).tolist(), shape[3])
    a, b = tensor(ends[0], inside), tensor(ends[1], (batch, *sizes.tolist(), channels))
    lists = [net.constant(np.int32(values)) for values in (blocks, pads, crops)]
    net.operator("SPACE_TO_BATCH_ND", [ends[0], lists[0], lists[1]], [a], "SpaceToBatchND", 2)
    kind, options = ("DEPTHWISE_CONV_2D", "DepthwiseConv2D") if depthwise else ("CONV_2D", "Conv2D")
    net.operator(kind, [a, weights, bias], [b], options, 3, **fields)
    net.operator("BATCH_TO_SPACE_ND", [b, lists[0], lists[2]], [ends[1]], "BatchToSpaceND", 2)


def pattern(case):
    inner, depthwise = case.pick(SAME, VALID), bool(case.pick(True, False))
    sizes, kernel, blocks, pads, crops, results, outputs = geometry(case.rng, inner)
    channels = 4 if depthwise else 3
    x = case.activation(1, *sizes, channels)
    w = case.weights((1, *kernel, 4) if depthwise else (4, *kernel, 3), 3 if depthwise else 0, case.element == "int8")
    y = case.activation(1, *outputs, 4, scale=case.scale(0.2, 3))

    def between(like, shape):
        scale, zero, _ = case.network.tensors[like][4]
        return case.network.tensor(shape, case.element, scale=scale, zero=zero)

    fields = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1, "Padding": inner}
    fields |= {"FusedActivationFunction": case.pick(0, 1, 3)} | ({"DepthMultiplier": 1} if depthwise else {})
    ends = (x, y, blocks, pads, crops, 4, results)
    add_pattern(case.network, between, w, case.bias(4, x, w), ends, fields, depthwise)
    return [x], [y]


def row_pattern(case):
    """Of one spatial dimension: reshaped to a picture of one row, or one column, around the convolution."""
    size, taps, block, axis = int(case.rng.integers(4, 12)), case.pick(1, 2, 3), case.pick(1, 2, 3), case.pick(1, 2)
    total = (taps - 1) * block
    extra = -(size + total) % block
    x, w = case.activation(1, size, 3), case.weights((4, *((1, taps) if axis == 1 else (taps, 1)), 3), 0, False)
    y = case.activation(1, size, 4, scale=case.scale(0.2, 3))
    inside, outside = (size + total + extra) // block, (size + extra) // block
    net, tensors = case.network, []
    for like, length, channels in ((x, inside, 3), (y, outside, 4)):
        scale, zero, _ = net.tensors[like][4]
        shapes = (block, length, channels), (block, *((1, length) if axis == 1 else (length, 1)), channels)
        tensors += [net.tensor(shape, case.element, scale=scale, zero=zero) for shape in shapes]
    a, b, d, c = tensors
    fields = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1, "Padding": VALID}
    blocks, pads, crops = (
        net.constant(np.int32(v)) for v in ([block], [[total // 2, total - total // 2 + extra]], [[0, extra]])
    )
    net.operator("SPACE_TO_BATCH_ND", [x, blocks, pads], [a], "SpaceToBatchND", 2)
    net.operator("EXPAND_DIMS", [a, net.constant(np.int32(axis))], [b], "ExpandDims")
    net.operator("CONV_2D", [b, w, case.bias(4, x, w)], [c], "Conv2D", 3, **fields)
    if case.pick(True, False):
        net.operator("SQUEEZE", [c], [d], "Squeeze", SqueezeDims=[axis])
    else:
        net.operator("RESHAPE", [c, net.constant(np.int32(net.tensors[d][1]))], [d], "Reshape")
    net.operator("BATCH_TO_SPACE_ND", [d, blocks, crops], [y], "BatchToSpaceND", 2)
    return [x], [y]


def real_network(seed):
    """The same of real numbers, with the array that goes in."""
    rng = np.random.default_rng(seed)
    inner = int(rng.integers(2))
    sizes, kernel, blocks, pads, crops, results, outputs = geometry(rng, inner)
    net = Network()
    x, y = net.tensor((1, *sizes, 3), name="x"), net.tensor((1, *outputs, 4), name="y")
    w, bias = (net.constant(rng.normal(0, 1, shape).astype(np.float32)) for shape in ((4, *kernel, 3), (4,)))
    fields = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1, "Padding": inner}
    ends = (x, y, blocks, pads, crops, 4, results)
    add_pattern(net, lambda _, shape: net.tensor(shape), w, bias, ends, fields)
    return net, [x], [y], rng.normal(0, 1, (1, *sizes, 3)).astype(np.float32)


@pytest.mark.parametrize("element", RANGES)
@pytest.mark.parametrize("make", [pattern, row_pattern], ids=lambda make: make.__name__)
def test_integers_of_the_reference_kernels(make, element, tmp_path):
    check_case(make, element, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_real_networks(seed, tmp_path):
    net, inputs, outputs, array = real_network(seed)
    path = net.write(tmp_path / "m.tflite", inputs, outputs)
    session = onnxruntime.InferenceSession(load(path).SerializeToString(), providers=["CPUExecutionProvider"])
    wanted, _ = litert(path, [array])
    assert np.allclose(session.run(None, {"x": array})[0], wanted, rtol=0, atol=1e-5)


def test_it_is_one_convolution(tmp_path):
    """SAME and VALID ones carry their padding themselves."""
    found = []
    for seed in range(12):
        net, inputs, outputs, _ = real_network(seed)
        graph = read_graph(net.write(tmp_path / "m.tflite", inputs, outputs))
        kinds = [type(node.operator) for node in graph.nodes]
        assert kinds.count(Conv) == 1
        found.append(kinds.count(Pad))
    assert 0 < sum(found) < len(found)


@pytest.mark.parametrize(("position", "index", "data", "text"), [
    (0, 1, [3, 1], "one convolution of stride 1"),
    (2, 2, [[9, 0], [0, 0]], "nothing cropped that was not padded"),
    (0, 2, [[0, 1], [0, 0]], "cannot part"),
    (0, 2, [[-1, 1], [0, 0]], r"has blocks .* and amounts"),
    (2, 2, [[0, 0]], r"BATCH_TO_SPACE_ND 2 't2': has blocks .* and amounts"),
], ids=["blocks", "crops", "sizes", "negative", "shape"])  # fmt: skip
def test_refused(position, index, data, text, tmp_path):
    case = Case(8, "int8")
    ends = pattern(case)
    case.network.operators[position][1][index] = case.network.constant(np.int32(data))
    with pytest.raises(ModelError, match=text):
        read_graph(case.files(tmp_path / "m.tflite", *ends))


def test_refused_alone(tmp_path):
    net = Network()
    x, y = net.tensor((1, 4, 4, 2)), net.tensor((4, 2, 2, 2))
    lists = [net.constant(np.int32(values)) for values in ([2, 2], [[0, 0], [0, 0]])]
    net.operator("SPACE_TO_BATCH_ND", [x, *lists], [y], "SpaceToBatchND", 2)
    with pytest.raises(UnsupportedOperator, match="SPACE_TO_BATCH_ND 0 't1': is supported as SPACE_TO_BATCH_ND, one"):
        read_graph(net.write(tmp_path / "m.tflite", [x], [y]))
