"""Makes a failing case small: whatever can go while the same failure stays, goes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz.generate import Case, Settings, pruned
from tests.fuzz.run import Failure

CRASHERS = Path(__file__).parent / "crashers"
SECONDS = 180
Check = Callable[[Case], Failure | None]


def reduce(case: Case, failure: Failure, check: Check, seconds: float = SECONDS) -> Case:
    """The smallest case found within the time that `check` still answers with the same failure."""
    end = time.monotonic() + seconds
    progress = True
    while progress:
        progress = False
        for candidate in candidates(case):
            if time.monotonic() > end:
                return case
            try:
                same = failure.same(check(candidate))
            except Exception:  # noqa: BLE001 - a candidate that is no network
                same = False
            if same:
                case, progress = candidate, True
                break
    return case


def keep(case: Case, failure: Failure, folder: Path = CRASHERS) -> Path:
    """Saves a case under the hash of its contents."""
    digest = hashlib.sha256(case.model.SerializeToString(deterministic=True) + repr(case.settings).encode()).hexdigest()
    folder.mkdir(exist_ok=True)
    path = folder / digest[:12]
    case.save(path, found=str(failure)[:300])
    return path


def candidates(case: Case) -> Iterator[Case]:
    """Smaller cases, the boldest first."""
    for model in (*_one_output(case.model), *_cut_front(case.model), *_bypassed(case.model)):
        if model is not None and model.graph.node:
            yield replace(case, model=model, settings=_without_lost_layers(case.settings, model))
    for settings in _plainer(case.settings):
        yield replace(case, settings=settings)
    for model in (*_fewer_attributes(case.model), *_smaller_inputs(case.model), *_plainer_constants(case.model)):
        if model is not None:
            yield replace(case, model=model)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes of all values for a batch of 1."""
    fixed = _copy(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def _info(model: onnx.ModelProto, name: str, shape: list[int]) -> onnx.ValueInfoProto:
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [dim.dim_param or 1, *shape[1:]])


def _one_output(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Any single value as the only output, early ones first; then each output gone."""
    shapes = _shapes(model)
    for node in model.graph.node:
        name = node.output[0]
        if name in shapes and [name] != [o.name for o in model.graph.output] and len(shapes[name]) > 1:
            smaller = _copy(model)
            del smaller.graph.output[:]
            smaller.graph.output.append(_info(model, name, shapes[name]))
            yield pruned(smaller)
    if len(model.graph.output) > 1:
        for k in range(len(model.graph.output)):
            smaller = _copy(model)
            del smaller.graph.output[k]
            yield pruned(smaller)


def _cut_front(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Any value as an input, late ones first."""
    shapes = _shapes(model)
    outputs = {output.name for output in model.graph.output}
    for k in range(len(model.graph.node) - 1, -1, -1):
        name = model.graph.node[k].output[0]
        if name in outputs or len(shapes.get(name, ())) < 2:
            continue
        smaller = _copy(model)
        smaller.graph.input.append(_info(model, name, shapes[name]))
        del smaller.graph.node[k]
        yield pruned(smaller)


def _bypassed(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """A node whose output has an input's shape is left out."""
    shapes = _shapes(model)
    outputs = {output.name for output in model.graph.output}
    for k, node in enumerate(model.graph.node):
        same = [name for name in node.input if shapes.get(name) == shapes.get(node.output[0])]
        if not same or node.output[0] in outputs:
            continue
        smaller = _copy(model)
        del smaller.graph.node[k]
        for other in smaller.graph.node:
            renamed = [same[0] if name == node.output[0] else name for name in other.input]
            del other.input[:]
            other.input.extend(renamed)
        yield pruned(smaller)


def _fewer_attributes(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    for k, node in enumerate(model.graph.node):
        for position in range(len(node.attribute)):
            smaller = _copy(model)
            del smaller.graph.node[k].attribute[position]
            yield _reshaped(smaller)
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            smaller = _copy(model)
            del smaller.graph.node[k].input[2]
            yield pruned(smaller)


def _smaller_inputs(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    for k, given in enumerate(model.graph.input):
        dims = given.type.tensor_type.shape.dim
        for position in range(1, len(dims)):
            for size in {1, dims[position].dim_value // 2, dims[position].dim_value - 1}:
                if 0 < size < dims[position].dim_value:
                    smaller = _copy(model)
                    smaller.graph.input[k].type.tensor_type.shape.dim[position].dim_value = size
                    yield _reshaped(smaller)


def _plainer_constants(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Weights that are one number, or of few digits."""
    for k, constant in enumerate(model.graph.initializer):
        array = numpy_helper.to_array(constant)
        if array.dtype != np.float32:
            continue
        for values in (np.ones_like(array), np.round(array * 4) / 4):
            if not np.array_equal(values, array) and not (array == 1).all():
                smaller = _copy(model)
                smaller.graph.initializer[k].CopyFrom(numpy_helper.from_array(values, constant.name))
                yield smaller


def _reshaped(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with its outputs' shapes inferred anew; None when it is no network any more."""
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    fixed = _copy(model)
    for given in fixed.graph.input:
        given.type.tensor_type.shape.dim[0].dim_value = 1
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return None
    for k, output in enumerate(inferred.graph.output):
        shape = [d.dim_value for d in output.type.tensor_type.shape.dim]
        if len(shape) < 2 or shape[0] != 1 or min(shape) < 1:
            return None
        model.graph.output[k].CopyFrom(_info(model, output.name, shape))
    return model


def _without_lost_layers(settings: Settings, model: onnx.ModelProto) -> Settings:
    names = {node.name for node in model.graph.node}
    return replace(settings, layers={name: layer for name, layer in settings.layers.items() if name in names})


def _plainer(settings: Settings) -> Iterator[Settings]:
    if settings.layers:
        yield replace(settings, layers={})
    for name, layer in settings.layers.items():
        yield replace(settings, layers={key: value for key, value in settings.layers.items() if key != name})
        for key in layer if len(layer) > 1 else ():
            kept = {k: v for k, v in layer.items() if k != key}
            yield replace(settings, layers={**settings.layers, name: kept})
    for change in (
        {"foldings": "solver"},
        {"pack": "none"},
        {"execute": "auto"},
        {"weight_bits": 8},
        {"activation_bits": 8},
        {"data": "normal"},
        {"scale": 1.0},
        {"rows": 8},
    ):
        plainer = replace(settings, **change)
        if plainer != settings:
            yield plainer
