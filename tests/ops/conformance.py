"""ONNX's own node cases as models of this toolchain: the first dimension is the batch, parameters are constants.

Many cases have no batch. They are lifted: every computed input gets one of size 1 in front, and axes move by one, which
leaves ONNX's meaning alone. Sequences come with the batch second; they are turned.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from toolchain.frontends.qoperators import EXPANSIONS
from toolchain.ops import IMPORTERS

FIXED = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "BatchNormalization"}
FIXED |= {"LRN", "Resize", "Upsample", "DepthToSpace", "SpaceToDepth", "InstanceNormalization", "GroupNormalization"}
FIXED |= {"Gemm", "Flatten", "LSTM", "GRU", "RNN"}
"""Operators whose batch and channels are ONNX's own first dimensions."""
AXIS = {"ArgMax": 0, "ArgMin": 0, "Split": 0, "Gather": 0, "Concat": 0}
"""The default of the attribute axis, where it counts from the front."""
AXES = {"ReduceMean": 1, "ReduceSum": 1, "ReduceMax": 1, "ReduceMin": 1, "Squeeze": 1, "Unsqueeze": 1, "Slice": 3}
"""The input that lists axes."""
STATISTICS = {"LayerNormalization", "Dropout", "BatchNormalization"}
"""Operators whose further outputs are for training only; the first one is compared."""


READ = {*IMPORTERS, *(kind for domain, kind in EXPANSIONS if not domain)}
"""Operators that are imported, or spelt out in those that are."""


@dataclass(frozen=True)
class Form:
    """A case as one model: its inputs and what its outputs have to be."""

    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def node_cases() -> list[TestCase]:
    """The cases of one node whose operator has an importer, sorted by name."""
    found = {
        case.name: case
        for case in collect_testcases(None)
        if len(case.model.graph.node) == 1
        and case.model.graph.node[0].op_type in READ
        and case.model.graph.node[0].domain in ("", "ai.onnx")
        and case.data_sets
    }
    return [found[name] for name in sorted(found)]


def forms(case: TestCase) -> Iterator[Form]:
    """Ways to see a case as a network, the most computed inputs first."""
    node = case.model.graph.node[0]
    given, wanted = case.data_sets[0]
    names = [i.name for i in case.model.graph.input]
    arrays = {n: _array(v) for n, v in zip(names, given, strict=True)}
    outputs = {o.name: _array(v) for o, v in zip(case.model.graph.output, wanted, strict=True)}
    if node.op_type in STATISTICS:
        outputs = dict(list(outputs.items())[:1])
    for count in range(len(names), 0, -1):
        computed = [n for n in names[:count] if arrays[n].dtype.kind in "fiuV" and n not in _parameters(node)]
        if not computed:
            continue
        if node.op_type in ("LSTM", "GRU", "RNN"):
            if count == 1:
                yield from (_form(case.model, arrays, outputs, computed), _turned(case, arrays, outputs))
            continue
        if all(arrays[n].ndim > 1 for n in computed):
            yield _form(case.model, arrays, outputs, computed)
        if node.op_type not in FIXED:
            yield from _lifted(case, arrays, outputs, computed)


def _array(value: np.ndarray | onnx.TensorProto) -> np.ndarray:
    """Types that numpy has not come as messages."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _parameters(node: onnx.NodeProto) -> set[str]:
    """Inputs that say what to do: axes, shapes, pads."""
    own = {"Reshape": (1,), "Expand": (1,), "Pad": (1, 2, 3), "Slice": (1, 2, 3, 4), "TopK": (1,), "Split": (1,)}
    own |= {"Gather": (1,), "Resize": (1, 2, 3), "Clip": (1, 2), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2)}
    own |= {"QLinearConv": tuple(range(1, 9)), "QLinearMatMul": tuple(range(1, 8))}
    own |= {"ConvInteger": (1, 2, 3), "MatMulInteger": (1, 2, 3)}
    places = own.get(node.op_type, (AXES[node.op_type],) if node.op_type in AXES else ())
    return {node.input[k] for k in places if k < len(node.input)}


def _form(
    given: onnx.ModelProto, arrays: dict[str, np.ndarray], outputs: dict[str, np.ndarray], computed: list[str]
) -> Form:
    """The case with its other inputs as constants."""
    model = onnx.ModelProto()
    model.CopyFrom(given)
    graph = model.graph
    kinds = {i.name: i.type.tensor_type.elem_type for i in graph.input}
    del graph.input[:], graph.output[:], graph.initializer[:]
    for name, array in arrays.items():
        if name in computed:
            graph.input.append(helper.make_tensor_value_info(name, kinds[name], array.shape))
        else:
            graph.initializer.append(numpy_helper.from_array(array, name))
    for name, array in outputs.items():
        graph.output.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        )
    return Form(model, {name: arrays[name] for name in computed}, outputs)


def _lifted(
    case: TestCase, arrays: dict[str, np.ndarray], outputs: dict[str, np.ndarray], computed: list[str]
) -> Iterator[Form]:
    node = onnx.NodeProto()
    node.CopyFrom(case.model.graph.node[0])
    results = [array.ndim for array in outputs.values()] if node.op_type == "Expand" else []
    rank = max([arrays[name].ndim for name in computed] + results, default=0)
    if rank == 0:
        return
    arrays = dict(arrays)
    for name in computed:
        arrays[name] = arrays[name].reshape((1,) * (rank + 1 - arrays[name].ndim) + arrays[name].shape)
    attributes = {a.name: a for a in node.attribute}
    if "axis" in attributes:
        attributes["axis"].i += attributes["axis"].i >= 0
    elif node.op_type in AXIS:
        node.attribute.append(helper.make_attribute("axis", AXIS[node.op_type] + 1))
    if "perm" in attributes or node.op_type == "Transpose":
        perm = list(attributes["perm"].ints) if "perm" in attributes else list(range(rank))[::-1]
        if "perm" in attributes:
            node.attribute.remove(attributes["perm"])
        node.attribute.append(helper.make_attribute("perm", [0, *(p + 1 for p in perm)]))
    _lift_parameters(node, arrays, rank)
    lifted = onnx.ModelProto()
    lifted.CopyFrom(case.model)
    del lifted.graph.node[:]
    lifted.graph.node.append(node)
    for name in arrays:
        if all(i.name != name for i in lifted.graph.input):
            kind = helper.np_dtype_to_tensor_dtype(arrays[name].dtype)
            lifted.graph.input.append(helper.make_tensor_value_info(name, kind, arrays[name].shape))
    yield _form(lifted, arrays, {name: array[None] for name, array in outputs.items()}, computed)


def _lift_parameters(node: onnx.NodeProto, arrays: dict[str, np.ndarray], rank: int) -> None:
    """Axes, shapes and pads that are constants."""

    def named(index: int) -> str:
        return node.input[index] if index < len(node.input) else ""

    if node.op_type in AXES:
        index = AXES[node.op_type]
        name = named(index)
        noop = any(a.name == "noop_with_empty_axes" and a.i for a in node.attribute)
        if name and arrays[name].size:
            arrays[name] = arrays[name] + (arrays[name] >= 0)
        elif not noop and node.op_type != "Squeeze":
            count = len(arrays[named(1)]) if node.op_type == "Slice" else rank
            while len(node.input) <= index:
                node.input.append("")
            node.input[index] = "lifted_axes"
            arrays["lifted_axes"] = np.arange(1, count + 1)
    elif node.op_type in ("Reshape", "Expand"):
        arrays[named(1)] = np.concatenate([[1], arrays[named(1)]]).astype(np.int64)
    elif node.op_type == "Pad" and named(3):
        arrays[named(3)] = arrays[named(3)] + (arrays[named(3)] >= 0)
    elif node.op_type == "Pad" and named(1):
        before, after = np.split(arrays[named(1)], 2)
        arrays[named(1)] = np.concatenate([[0], before, [0], after]).astype(np.int64)


def _turned(case: TestCase, arrays: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> Form:
    """A recurrent layer between transpositions that bring the batch to the front."""
    first = case.model.graph.input[0].name
    swapped = {**arrays, first: arrays[first].transpose(1, 0, 2)}
    orders = {name: [2, 0, 1, 3] if array.ndim == 4 else [1, 0, 2] for name, array in outputs.items()}
    turned = {name: array.transpose(orders[name]) for name, array in outputs.items()}
    form = _form(case.model, swapped, turned, [first])
    node = form.model.graph.node[0]
    node.input[0] = "turned_input"
    for index, name in enumerate(node.output):
        if name:
            node.output[index] = f"turned_{name}"
    front = helper.make_node("Transpose", [first], ["turned_input"], perm=[1, 0, 2])
    backs = [helper.make_node("Transpose", [f"turned_{n}"], [n], perm=orders[n]) for n in outputs]
    whole = [front, node, *backs]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in whole]
    del form.model.graph.node[:]
    form.model.graph.node.extend(copies)
    return form
