"""Reads ONNX files: hostile bytes in, a clean model of one opset with constants folded out."""

from __future__ import annotations

import contextlib
import math
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx_ir
import onnx_ir.passes.common as ir_passes
import onnxscript.optimizer
from google.protobuf.message import DecodeError, Message

from toolchain.errors import ModelError, ToolchainError, UnsafeModel, UnsupportedOperator
from toolchain.frontends.broadcasts import spell_out_broadcasts
from toolchain.frontends.folding import FOLD_LIMIT, Folding, quiet
from toolchain.frontends.interpolation import BEFORE_11
from toolchain.frontends.missing import reason
from toolchain.frontends.qonnx import QONNX, forget_functions, spell_out_domain
from toolchain.frontends.qoperators import spell_out_quantized
from toolchain.frontends.weights import apart, put_back

OPSET = 18
OLDEST_OPSET = 6
FILE_LIMIT = 2 << 30
FUNCTION_DEPTH = 64
RESIZE_CHANGED = 11
EXPANSION_LIMIT = 1 << 20


def load(path: Path) -> onnx.ModelProto:
    """Parses an ONNX file with its external data. Raises ModelError or UnsafeModel; executes nothing."""
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise ModelError(f"the file has {size} bytes, more than the {FILE_LIMIT} that are read", where=path.name)
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"is not an ONNX file ({error})", where=path.name, fix="Export the model again with onnx.save."
        ) from None
    if not model.graph.node and not model.graph.output:
        raise ModelError("is not an ONNX file: it holds no graph", where=path.name)
    room = FILE_LIMIT
    for tensor in _tensors(model):
        room -= read_external(tensor, path.parent, room)
        check_tensor(tensor)
    _check_functions(model)
    return model


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """All tensors of a model, those in attributes, subgraphs and functions too."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                yield from _tensors(part)


def _check_functions(model: onnx.ModelProto) -> None:
    """Refuses functions that call themselves, and those whose expansion would never end in practice."""
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(key: tuple[str, str], callers: tuple[tuple[str, str], ...]) -> int:
        if key in callers or len(callers) > FUNCTION_DEPTH:
            raise UnsafeModel("calls itself, or is nested too deeply", where=f"function {key[1]!r}")
        if key not in sizes:
            inner = [(node.domain, node.op_type) for node in bodies[key]]
            sizes[key] = sum(size(name, (*callers, key)) if name in bodies else 1 for name in inner)
        return sizes[key]

    total = sum(
        size((node.domain, node.op_type), ()) for node in model.graph.node if (node.domain, node.op_type) in bodies
    )
    if total > EXPANSION_LIMIT:
        raise UnsafeModel(f"its functions expand to {total} nodes, more than {EXPANSION_LIMIT}")


def claimed_size(tensor: onnx.TensorProto) -> int:
    """Bytes of raw data that the shape and type of a tensor ask for. Raises ModelError when there are none such."""
    if any(d < 0 for d in tensor.dims):
        raise ModelError(f"has the shape {list(tensor.dims)}", where=f"initializer {tensor.name!r}")
    try:
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        raise ModelError(
            f"has the unknown data type {tensor.data_type}", where=f"initializer {tensor.name!r}"
        ) from None
    count = math.prod(tensor.dims)
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    packed = 2 if kind in ("INT4", "UINT4", "FLOAT4E2M1") else 4 if kind in ("INT2", "UINT2") else 1
    return int(-(-count // packed) * item)


def check_tensor(tensor: onnx.TensorProto) -> None:
    """Refuses a tensor whose data does not have the size that its shape claims, before anything is allocated."""
    wanted = claimed_size(tensor)
    if tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING:
        _check_length(tensor, wanted, len(tensor.raw_data))


def _check_length(tensor: onnx.TensorProto, wanted: int, got: int) -> None:
    if wanted != got:
        raise ModelError(
            f"holds {got} bytes, its shape {list(tensor.dims)} needs {wanted}", where=f"initializer {tensor.name!r}"
        )


def read_external(tensor: onnx.TensorProto, folder: Path, room: int = FILE_LIMIT) -> int:
    """Replaces a reference to a data file by its bytes, `room` at most, and gives their number.

    The file must be an ordinary one inside the model's folder, and the part of it as large as the shape says.
    """
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return 0
    where = f"initializer {tensor.name!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = Path(location).parts
    if not parts or Path(location).is_absolute() or ".." in parts or "\0" in location or "\\" in location:
        raise UnsafeModel(f"external data {location!r} lies outside the model's folder", where=where)
    place = folder
    for part in parts:
        place = place / part
        try:
            info = place.lstat()
        except OSError:
            raise ModelError(f"external data {location!r} is missing", where=where) from None
        if stat.S_ISLNK(info.st_mode) or (stat.S_ISREG(info.st_mode) and info.st_nlink > 1):
            raise UnsafeModel(f"external data {location!r} is a link", where=where, fix="Copy the file itself there.")
    if not stat.S_ISREG(info.st_mode):
        raise UnsafeModel(f"external data {location!r} is not an ordinary file", where=where)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", info.st_size))
    except ValueError:
        raise ModelError("external data has an offset or length that is no number", where=where) from None
    if offset < 0 or length < 0 or offset + length > info.st_size:
        raise ModelError(f"external data {location!r} is shorter than it claims", where=where)
    _check_length(tensor, claimed_size(tensor), length)
    if length > room:
        raise ModelError(f"the external data has more than the {FILE_LIMIT} bytes that are read", where=where)
    with place.open("rb") as data:
        data.seek(offset)
        tensor.raw_data = data.read(length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
    return length


def normalize(model: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]] | None = None) -> onnx.ModelProto:
    """The same network in opset 18 or newer with the batch set to 1, shapes known and constants folded.

    `input_shapes` gives free dimensions a size, batch included. Raises ModelError when a dimension stays free, an
    opset is too old or new, or the model is inconsistent.
    """
    version = _version(model)
    newest = onnx.defs.onnx_opset_version()
    if model.functions:  # before the converter, which knows nothing of them
        model = onnx.inliner.inline_local_functions(model)
    spell_out_domain(model)
    if not OLDEST_OPSET <= version <= newest:
        raise ModelError(f"has opset {version}, {OLDEST_OPSET} to {newest} are read", fix="Export it with opset 18.")
    model, weights = apart(model)
    model.ir_version = max(model.ir_version, 8)
    _fix_input_shapes(model, input_shapes or {}, weights)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    try:
        if version < 7:
            spell_out_broadcasts(model)
        if version < OPSET:  # a newer one is read as it is: the converter has no way back for many operators
            model = _convert(model)
        model = _with_shapes(model)
        spell_out_quantized(model)
        graph = onnx_ir.serde.deserialize_model(model)
        ir_passes.RemoveInitializersFromInputsPass()(graph)
        ir_passes.InlinePass()(graph)
        with quiet():
            onnxscript.optimizer.fold_constants(
                graph,
                onnx_shape_inference=True,
                should_fold=Folding(),
                input_size_limit=FOLD_LIMIT,
                output_size_limit=FOLD_LIMIT,
            )
        ir_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        onnxscript.optimizer.remove_unused_nodes(graph)
        ir_passes.TopologicalSortPass()(graph)
        cleaned = onnx_ir.serde.serialize_model(graph)
    except ToolchainError:
        raise
    except Exception as error:  # the libraries raise every kind of exception on damaged models
        raise ModelError(
            f"cannot be brought to opset {OPSET}: {_first_line(error)}",
            fix="Check it with onnx.checker.check_model, or export it with opset 18.",
        ) from error
    with contextlib.suppress(Exception):  # these shapes only help messages, the importer infers its own
        cleaned = onnx.shape_inference.infer_shapes(cleaned, data_prop=True)
    put_back(cleaned, weights)
    return cleaned


def _convert(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in opset 18. The converter gives up on operators of other domains, so that these are listed here."""
    old = {name for node in model.graph.node if node.op_type in ("Upsample", "Resize") for name in node.output}
    try:
        converted = onnx.version_converter.convert_version(model, OPSET)
    except Exception:
        problems = _unsupported_before_conversion(model)
        if problems:
            raise unsupported(problems) from None
        raise
    if _version(model) < RESIZE_CHANGED:
        _keep_places([node for node in converted.graph.node if not old.isdisjoint(node.output)])
    return converted


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of QONNX's results, whose operators nothing knows from here on."""
    if any(function.domain == QONNX for function in model.functions):
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        forget_functions(model)
    return model


def _version(model: onnx.ModelProto) -> int:
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def _keep_places(nodes: list[onnx.NodeProto]) -> None:
    """Before opset 11 a picture was sampled at i / scale; the converter leaves such nodes with the new default."""
    for node in nodes:
        for name, value in (("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", BEFORE_11)):
            if all(attribute.name != name for attribute in node.attribute):
                node.attribute.append(onnx.helper.make_attribute(name, value))


def _unsupported_before_conversion(model: onnx.ModelProto) -> list[str]:
    """Operators of other domains and, where there are any, also those of ONNX that nothing translates or folds."""
    from toolchain.ops import IMPORTERS  # the operators import this package

    constants = {tensor.name for tensor in model.graph.initializer} | {""}
    problems, foreign = [], False
    for node in model.graph.node:
        where = f"{node.op_type} {node.name or (node.output[0] if node.output else '')!r}"
        if node.domain not in ("", "ai.onnx", QONNX):
            foreign = True
            problems.append(f"{where}: operators of domain {node.domain!r} are not supported")
        elif node.op_type in ("Shape", "Size") or all(name in constants for name in node.input):
            constants.update(node.output)
        elif node.op_type not in IMPORTERS:
            why = reason(node.op_type)
            problems.append(f"{where}: this operator is not supported{why and f' ({why})'}")
    return problems if foreign else []


def unsupported(problems: list[str], where: str | None = None, faults: int = 0) -> ModelError:
    """One error for everything that is not supported; `faults` of the problems are errors of the model itself."""
    kind = ModelError if faults == len(problems) else UnsupportedOperator
    what = "problems" if faults else "unsupported"
    error = kind(f"{len(problems)} {what}: " + "; ".join(problems), where=where)
    error.problems = tuple(problems)
    return error


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:  # onnx_ir wraps what is wrong into where it was met
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _fix_input_shapes(
    model: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, onnx.TensorProto]
) -> None:
    initializers = {tensor.name for tensor in model.graph.initializer} | set(weights)
    inputs = [given for given in model.graph.input if given.name not in initializers]
    names = [given.name for given in inputs]
    for name in input_shapes:
        if name not in names:
            raise ModelError(f"has no input {name!r}", fix=f"Its inputs are {', '.join(names)}.")
    for given in inputs:
        shape = given.type.tensor_type.shape
        wanted = input_shapes.get(given.name)
        if wanted is not None:
            if len(shape.dim) not in (0, len(wanted)):
                raise ModelError(
                    f"has {len(shape.dim)} dimensions, --input-shape gives {len(wanted)}", where=given.name
                )
            known = [d.dim_value for d in shape.dim] or [0] * len(wanted)
            for index, (have, want) in enumerate(zip(known, wanted, strict=True)):
                if index and have and have != want:
                    raise ModelError(f"dimension {index} is {have} in the model, not {want}", where=given.name)
            del shape.dim[:]
            for size in wanted:
                shape.dim.add().dim_value = size
        if not shape.dim:
            raise ModelError("has no shape", where=f"input {given.name!r}", fix=_shape_hint(given.name, []))
        free = [k for k, d in enumerate(shape.dim) if k and d.dim_value <= 0]
        if free:
            raise ModelError(
                f"dimension {free[0]} ({shape.dim[free[0]].dim_param or '?'}) is free",
                where=f"input {given.name!r}",
                fix=_shape_hint(given.name, [d.dim_value for d in shape.dim]),
            )
        shape.dim[0].Clear()
        shape.dim[0].dim_value = 1


def _shape_hint(name: str, known: list[int]) -> str:
    dims = ",".join(str(d if k and d > 0 else 1 if not k else "SIZE") for k, d in enumerate(known)) or "1,SIZE,..."
    return f"Give it a size with --input-shape {name}={dims}."


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """All initializers as arrays."""
    arrays = {}
    for tensor in model.graph.initializer:
        check_tensor(tensor)
        try:
            array = onnx.numpy_helper.to_array(tensor)
            if array.dtype.kind == "V":  # bfloat16 and smaller, or integers of fewer than 8 bits
                array = array.astype(np.int8 if "int" in array.dtype.name else np.float32)
            arrays[tensor.name] = array
        except Exception as error:
            raise ModelError(_first_line(error), where=f"initializer {tensor.name!r}") from error
    return arrays
