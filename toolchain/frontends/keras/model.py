"""The structure of a Keras model: layers, their calls and the references between them, Keras 2 and 3 alike."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from toolchain.errors import ModelError
from toolchain.frontends.keras.calls import (
    KERAS2_COUNTINGS,
    KERAS3_FUNCTIONAL_COUNTINGS,
    KERAS3_SEQUENTIAL_COUNTINGS,
    Reference,
    align,
    read_calls,
    read_references,
)
from toolchain.frontends.keras.fields import Fields, Json, is_integer, show
from toolchain.frontends.keras.layers import LAYERS, OPERATIONS, Layer, read_layer

MAX_LAYERS = 10_000
MAX_DEPTH = 12
MAX_NAME = 256
MODEL_CLASSES = ("Functional", "Model", "Sequential")
PACKAGES = ("keras", "tf_keras", "tensorflow", "qkeras")
"""Whose classes are known, by the first part of their module."""
LAYER_KEYS = frozenset(
    {
        "class_name", "config", "module", "registered_name", "name", "inbound_nodes", "build_config",
        "compile_config", "shared_object_id", "keras_version", "backend",
    }
)  # fmt: skip
MODEL_KEYS = frozenset(
    {"name", "trainable", "dtype", "layers", "input_layers", "output_layers", "build_input_shape", "autocast"}
)


@dataclass(frozen=True)
class Input:
    """An input of a model: its shape without the batch dimension; None where it is free or not known at all."""

    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Member:
    """One layer of a model.

    Attributes:
        name: its name, unique within the model.
        class_name: its Keras class, which names it in Keras 3 weight files.
        content: what it does.
        trainable: false when it is frozen, which changes the order of weights in old files.
        calls: the arguments of every call; a shared layer has several.
        is_operation: true for a bare `keras.ops` function, which Keras does not count among the layers.
    """

    name: str
    class_name: str
    content: "Layer | Model | Input"
    trainable: bool
    calls: tuple[tuple[Reference, ...], ...]
    is_operation: bool = False


@dataclass(frozen=True)
class Model:
    """A Sequential or Functional model."""

    name: str
    members: tuple[Member, ...]
    inputs: tuple[str, ...]
    outputs: tuple[Reference, ...]

    def input_shape(self, index: int) -> tuple[int | None, ...] | None:
        """Shape of the index-th input without batch, free dimensions as None."""
        content = next(m.content for m in self.members if m.name == self.inputs[index])
        return content.shape if isinstance(content, Input) else None


@dataclass
class Reader:
    """Reads the structure and writes down everything unsupported on the way."""

    keras_major: int | None
    problems: list[str]
    count: int = 0

    def read_model(self, serialized: dict[str, Json], path: str = "", depth: int = 0) -> Model:
        """Reads a serialized model, `{"class_name": "Sequential", "config": ...}`, nested ones too."""
        kind, config = serialized.get("class_name"), serialized.get("config")
        if kind not in MODEL_CLASSES or not is_keras(serialized):
            raise ModelError(
                f"the model is a {show(kind)}, only Sequential and Functional models hold their own structure",
                where=path or None,
                fix="Rebuild a subclassed model with the functional API and save that",
            )
        if depth > MAX_DEPTH:
            raise ModelError(f"models are nested deeper than {MAX_DEPTH}", where=path)
        if isinstance(config, list):  # Keras 2.0 to 2.1
            config = {"name": serialized.get("name", "sequential"), "layers": config}
        if not isinstance(config, dict):
            raise ModelError("the model has no configuration", where=path or None)
        self._check_model_keys(serialized, config, path)
        layers = config.get("layers")
        if not isinstance(layers, list) or not layers:
            raise ModelError("the model has no layers", where=path or None)
        self.count += len(layers)
        if self.count > MAX_LAYERS:
            raise ModelError(f"the model has more than {MAX_LAYERS} layers", where=path or None)
        name = read_name(config.get("name", serialized.get("name", "model")), path)
        prefix = path + "/" if path else ""
        if kind == "Sequential":
            return self._sequential(name, config, layers, prefix, depth)
        return self._functional(name, config, layers, prefix, depth)

    def _check_model_keys(self, serialized: dict[str, Json], config: dict[str, Json], path: str) -> None:
        fields = Fields(path or "model", str(serialized["class_name"]), config, self.problems, self.keras_major)
        fields.ignore(*MODEL_KEYS - {"dtype"})
        fields.finish()
        for key in serialized.keys() - LAYER_KEYS:
            fields.refuse(show(key), "unknown attribute, it could change the result")

    def _sequential(self, name: str, config: dict[str, Json], layers: list[Json], prefix: str, depth: int) -> Model:
        members: list[Member] = []
        for serialized in layers:
            previous = (Reference(members[-1].name, 0, 0),) if members else ()
            member = self._member(serialized, prefix, depth, (previous,) if members else ())
            if not members and not isinstance(member.content, Input):
                members.append(self._implicit_input(config, serialized, member))
                source = (Reference(members[0].name, 0, 0),)
                member = replace(member, calls=(source,))
            elif members and isinstance(member.content, Input):
                raise ModelError("an InputLayer stands behind other layers", where=prefix + member.name)
            members.append(member)
        check_unique(members, prefix)
        return Model(name, tuple(members), (members[0].name,), (Reference(members[-1].name, 0, 0),))

    def _implicit_input(self, config: dict[str, Json], serialized: dict[str, Json], first: Member) -> Member:
        """The input that a Sequential model without InputLayer takes from its first layer."""
        inner = serialized.get("config")
        shape: Json = None
        if isinstance(inner, dict):
            shape = inner.get("batch_input_shape", inner.get("batch_shape"))
        if shape is None and isinstance(first.content, Model) and len(first.content.inputs) == 1:
            known = first.content.input_shape(0)
            shape = None if known is None else [None, *known]
        if shape is None:
            shape = config.get("build_input_shape")
        name = f"{first.name}_input"
        return Member(name, "InputLayer", Input(read_input_shape(shape, name)), True, ())

    def _functional(self, name: str, config: dict[str, Json], layers: list[Json], prefix: str, depth: int) -> Model:
        members = [self._member(serialized, prefix, depth, None) for serialized in layers]
        check_unique(members, prefix)
        where = prefix.rstrip("/") or name
        inputs = read_references(config.get("input_layers"), where, "input_layers")
        outputs = read_references(config.get("output_layers"), where, "output_layers")
        by_name = {member.name: member for member in members}
        for reference in inputs:
            member = by_name.get(reference.layer)
            if member is None or not isinstance(member.content, Input):
                raise ModelError(f"the input {reference.layer!r} is not an InputLayer", where=where)
        modern = any(isinstance(node, dict) for serialized in layers for node in serialized.get("inbound_nodes") or ())
        nested = {m.name: countings(m, modern) for m in members if isinstance(m.content, Model)}
        calls, outputs = align({m.name: m.calls for m in members}, outputs, nested, where)
        members = [replace(member, calls=calls[member.name]) for member in members]
        return Model(name, tuple(members), tuple(reference.layer for reference in inputs), outputs)

    def _member(
        self, serialized: Json, prefix: str, depth: int, calls: tuple[tuple[Reference, ...], ...] | None
    ) -> Member:
        """Reads one layer. `calls` is given for Sequential models, which do not store them."""
        if not isinstance(serialized, dict) or not isinstance(serialized.get("class_name"), str):
            raise ModelError(f"a layer is stored as {show(serialized)}", where=prefix.rstrip("/") or None)
        kind, config = str(serialized["class_name"]), serialized.get("config")
        if isinstance(config, list) and kind == "Sequential":
            config = {"name": serialized.get("name", "sequential"), "layers": config}
        if not isinstance(config, dict):
            raise ModelError(f"a {show(kind)} has no configuration", where=prefix.rstrip("/") or None)
        name = read_name(serialized.get("name", config.get("name")), prefix + kind)
        path = prefix + name
        fields = Fields(path, show(kind).strip("'"), config, self.problems, self.keras_major)
        for key in serialized.keys() - LAYER_KEYS:
            fields.refuse(show(key), "unknown attribute, it could change the result")
        is_operation = is_function(serialized)
        if calls is None:
            calls = read_calls(serialized.get("inbound_nodes"), fields, path, is_operation=is_operation)
        trainable = config.get("trainable") is not False
        content: Layer | Model | Input
        if kind in MODEL_CLASSES and is_keras(serialized):
            content = self.read_model({**serialized, "config": config}, path, depth + 1)
        elif kind == "InputLayer" and is_keras(serialized):
            fields.ignore("input_tensor")
            fields.finish()
            content = Input(read_input_shape(config.get("batch_shape", config.get("batch_input_shape")), path))
        else:
            content = read_layer(fields, is_keras(serialized), is_operation, is_hgq(serialized))
        return Member(name, kind, content, trainable, calls, is_operation)


def is_keras(serialized: dict[str, Json]) -> bool:
    """True when the class is Keras's own: a custom class may carry the name of a built-in one."""
    module, registered = serialized.get("module"), serialized.get("registered_name")
    if registered is not None and str(registered).removeprefix("qkeras>") != serialized.get("class_name"):
        return False
    return module is None or (isinstance(module, str) and module.split(".")[0] in PACKAGES)


def is_hgq(serialized: dict[str, Json]) -> bool:
    """True for a class of HGQ2, many of which bear the names of QKeras's."""
    registered = serialized.get("registered_name") == f"hgq>{serialized.get('class_name')}"
    return registered and str(serialized.get("module")).split(".")[0] == "hgq"


def is_function(serialized: dict[str, Json]) -> bool:
    """True for a bare `keras.ops` function. HDF5 files store no module, but functions take separate operands."""
    module, nodes = serialized.get("module"), serialized.get("inbound_nodes")
    if module is not None:
        return str(module).startswith("keras.src.ops.")
    if serialized["class_name"] not in OPERATIONS or not isinstance(nodes, list) or not nodes:
        return False
    arguments = nodes[0].get("args") if isinstance(nodes[0], dict) else None
    known = serialized["class_name"] in LAYERS
    return isinstance(arguments, list) and all(isinstance(a, dict) for a in arguments) and len(arguments) > known


def read_name(value: Json, where: str) -> str:
    """A name fit for ONNX and for messages."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise ModelError(f"{show(value)} is not a name of 1 to {MAX_NAME} printable characters", where=where or None)
    return value


def read_input_shape(value: Json, where: str) -> tuple[int | None, ...] | None:
    """The shape without its batch dimension."""
    if value is None:
        return None
    if not isinstance(value, list) or not 2 <= len(value) <= 6:
        raise ModelError(f"the input shape {show(value)} is not 2 to 6 dimensions, batch first", where=where)
    for size in value:
        if size is not None and not (is_integer(size) and 1 <= size < 1 << 31):
            raise ModelError(f"the input shape {show(value)} holds {show(size)}", where=where)
    return tuple(value[1:])


def countings(member: Member, modern: bool) -> tuple[tuple[int, int], ...]:
    """How the file may count the calls of a nested model."""
    if not modern:
        return KERAS2_COUNTINGS
    return KERAS3_SEQUENTIAL_COUNTINGS if member.class_name == "Sequential" else KERAS3_FUNCTIONAL_COUNTINGS


def check_unique(members: list[Member], prefix: str) -> None:
    """Refuses two layers of one name: references between layers are by name."""
    seen: set[str] = set()
    for member in members:
        if member.name in seen:
            raise ModelError("two layers have this name", where=prefix + member.name)
        seen.add(member.name)


def walk(model: Model, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Member]]:
    """All layers with what they compute, nested ones included, in Keras's order."""
    for member in model.members:
        if isinstance(member.content, Model):
            yield from walk(member.content, (*path, member.name))
        else:
            yield (*path, member.name), member
