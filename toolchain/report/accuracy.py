"""Accuracy of the integer program and of the float model it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from toolchain.errors import InputError
from toolchain.frontends import read_model
from toolchain.ir import Array, Graph, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.progress import Progress
from toolchain.project import load
from toolchain.simulation.arrays import load_arrays
from toolchain.simulation.simulator import check_inputs


def evaluate_project(
    project: Path, inputs: Path, labels: Path, model: Path | None, weights: Path | None, progress: Progress
) -> dict[str, float | int]:
    """Share of rows whose largest output is the labelled class (ties go to the first), and agreement with the model."""
    loaded = load(project)
    arrays = check_inputs(loaded.graph, load_arrays(inputs, [given.name for given in loaded.graph.inputs]))
    wanted = load_arrays(labels, ["labels"])["labels"]
    rows = len(next(iter(arrays.values())))
    if wanted.shape != (rows,) or wanted.dtype.kind not in "iu":
        raise InputError(f"has the shape {list(wanted.shape)}, {rows} class numbers are needed", where=str(labels))
    raw = loaded.simulator().raw_outputs(arrays, lambda done, total: progress("simulating", done, total))
    integer = classes(next(iter(raw.values())))
    result: dict[str, float | int] = {"samples": rows, "integer_accuracy": float((integer == wanted).mean())}
    if model is not None:
        shapes = {given.name: given.model_shape for given in loaded.graph.inputs}
        real = {given.name: real_values(loaded.graph, given.name, arrays[given.name]) for given in loaded.graph.inputs}
        floating = classes(run_float_model(model, weights, real, shapes, progress))
        result["float_accuracy"] = float((floating == wanted).mean())
        result["agreement"] = float((integer == floating).mean())
    return result


def classes(scores: Array) -> Array:
    """The position of the largest score in each row, the first where several are."""
    return np.asarray(scores.reshape(len(scores), -1).argmax(axis=1))


def real_values(graph: Graph, name: str, values: Array) -> Array:
    """What an input's array means to the float model: integers are raw, in the program's format of that input."""
    if values.dtype.kind not in "iub":
        return values
    entry = next(node for node in graph.consumers[name] if isinstance(node.operator, Quantize))
    type = graph.types[entry.name]
    assert isinstance(type, TensorType)
    return type.real(values)


def run_float_model(
    model: Path,
    weights: Path | None,
    arrays: Mapping[str, Array],
    shapes: Mapping[str, tuple[int, ...]],
    progress: Progress,
) -> Array:
    """The first output of the float model, computed by ONNX Runtime row by row (its batch is set to 1).

    Raises InputError when its inputs are not those of the project, `shapes`.
    """
    proto = read_model(model, weights, {name: (1, *shape) for name, shape in shapes.items()})
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    kinds = {given.name: _numpy_type(given.type) for given in session.get_inputs()}
    if set(kinds) != set(shapes):
        raise InputError(
            f"has the inputs {', '.join(sorted(kinds))}, the project {', '.join(sorted(shapes))}", where=str(model)
        )
    rows = len(next(iter(arrays.values())))
    scores = []
    for row in range(rows):
        feed = {name: array[row : row + 1].astype(kinds[name]) for name, array in arrays.items()}
        scores.append(session.run(None, feed)[0])
        if row % 64 == 0:
            progress("running the float model", row, rows)
    return np.concatenate(scores)


def _numpy_type(name: str) -> str:
    return {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}.get(
        name, name.removeprefix("tensor(").removesuffix(")")
    )
