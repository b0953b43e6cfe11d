"""Reads which tensors a layer is called on: Keras 2's nested lists and Keras 3's `__keras_tensor__` objects."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from toolchain.errors import ModelError
from toolchain.frontends.keras.fields import Fields, Json, is_integer, show

MAX_CALLS = 10_000


@dataclass(frozen=True)
class Reference:
    """Output `tensor` of call number `call` of a layer."""

    layer: str
    call: int
    tensor: int


Calls: TypeAlias = tuple[tuple[Reference, ...], ...]

# A nested model is born with one call of its own, which is not stored. Keras 2 therefore counts its stored calls from
# one, unless it was built late; Keras 3 counts them from zero between layers, and from one in the outputs if the nested
# model is Functional. Every stored call is used somewhere, which tells the countings apart.
KERAS2_COUNTINGS = ((1, 1), (0, 0))
KERAS3_FUNCTIONAL_COUNTINGS = ((0, 1), (0, 0), (1, 1))
KERAS3_SEQUENTIAL_COUNTINGS = ((0, 0), (1, 1))


def read_calls(value: Json, fields: Fields, where: str, *, is_operation: bool) -> Calls:
    """The arguments of every call of a layer, from its `inbound_nodes`."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_CALLS:
        raise ModelError("inbound_nodes is not a list", where=where)
    return tuple(_read_call(node, fields, where, is_operation) for node in value)


def _read_call(node: Json, fields: Fields, where: str, is_operation: bool) -> tuple[Reference, ...]:
    if isinstance(node, dict):
        return _read_keras3(node, fields, where, is_operation)
    if isinstance(node, list) and node and isinstance(node[0], str):
        node = [node]
    if not isinstance(node, list):
        raise ModelError(f"a call is stored as {show(node)}", where=where)
    for argument in node:
        if isinstance(argument, list) and len(argument) == 4:
            _check_keywords(argument[3], fields, where)
    return tuple(_reference(argument[:3] if isinstance(argument, list) else argument, where) for argument in node)


def _read_keras3(node: dict[str, Json], fields: Fields, where: str, is_operation: bool) -> tuple[Reference, ...]:
    arguments = node.get("args")
    if not isinstance(arguments, list) or not node.keys() <= {"args", "kwargs"}:
        raise ModelError(f"a call is stored as {show(node)}", where=where)
    _check_keywords(node.get("kwargs"), fields, where)
    if is_operation:
        tensors = arguments
    else:
        if any(argument is not None for argument in arguments[1:]):
            fields.refuse("call", "is called with further positional arguments")
        tensors = arguments[0] if arguments and isinstance(arguments[0], list) else arguments[:1]
    references = []
    for tensor in tensors:
        if not isinstance(tensor, dict) or tensor.get("class_name") != "__keras_tensor__":
            fields.refuse("call", f"is called with {show(tensor)}, only tensors are supported")
            continue
        inner = tensor.get("config")
        references.append(_reference(inner.get("keras_history") if isinstance(inner, dict) else None, where))
    return tuple(references)


def _check_keywords(keywords: Json, fields: Fields, where: str) -> None:
    if keywords is None:
        return
    if not isinstance(keywords, dict):
        raise ModelError(f"the arguments of a call are stored as {show(keywords)}", where=where)
    for key, value in keywords.items():
        if not (key == "mask" and value is None) and not (key == "training" and value in (None, False)):
            fields.refuse("call", f"is called with {show(key)} = {show(value)}")


def _reference(value: Json, where: str) -> Reference:
    if (
        isinstance(value, list)
        and len(value) == 3
        and isinstance(value[0], str)
        and is_integer(value[1])
        and is_integer(value[2])
        and value[1] >= 0
        and value[2] >= 0
    ):
        return Reference(value[0], value[1], value[2])
    raise ModelError(f"a tensor is referenced as {show(value)}", where=where)


def read_references(value: Json, where: str, key: str) -> tuple[Reference, ...]:
    """The tensors of `input_layers` or `output_layers`: one, a list, or a dictionary of them."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        value = [value]
    if not isinstance(value, list) or not value or len(value) > MAX_CALLS:
        raise ModelError(f"{key} is stored as {show(value)}", where=where)
    return tuple(_reference(item, where) for item in value)


def align(
    calls: dict[str, Calls],
    outputs: tuple[Reference, ...],
    nested: dict[str, tuple[tuple[int, int], ...]],
    where: str,
) -> tuple[dict[str, Calls], tuple[Reference, ...]]:
    """Renumbers calls of nested models from zero and checks every reference.

    Args:
        calls: arguments of all layers' calls, by layer.
        outputs: the model's outputs.
        nested: for each nested model the countings to try: (start between layers, start in the outputs).
        where: the model, for messages.
    """
    everything = [reference for stored in calls.values() for arguments in stored for reference in arguments]
    shifts: dict[str, tuple[int, int]] = {}
    for name, candidates in nested.items():
        inside = {reference.call for reference in everything if reference.layer == name}
        outside = {reference.call for reference in outputs if reference.layer == name}
        for inner, outer in candidates:
            if {c - inner for c in inside} | {c - outer for c in outside} == set(range(len(calls[name]))):
                shifts[name] = (inner, outer)
                break
        else:
            raise ModelError("the calls of this nested model do not fit their uses", where=f"{where}/{name}")

    def shift(reference: Reference, side: int) -> Reference:
        moved = replace(reference, call=reference.call - shifts.get(reference.layer, (0, 0))[side])
        if moved.layer not in calls or not 0 <= moved.call < max(len(calls[moved.layer]), 1):
            raise ModelError(f"the tensor {reference.layer!r}, call {reference.call}, does not exist", where=where)
        return moved

    return (
        {name: tuple(tuple(shift(r, 0) for r in arguments) for arguments in stored) for name, stored in calls.items()},
        tuple(shift(reference, 1) for reference in outputs),
    )
