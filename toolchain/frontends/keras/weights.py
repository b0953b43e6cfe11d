"""Finds the stored tensors of every layer, in the layouts of Keras 2 (names) and Keras 3 (numbers)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ModelError
from toolchain.frontends.keras.files import ModelFile
from toolchain.frontends.keras.hdf5 import Budget, Tensor, descend, hdf5_errors, open_tensor, read_names
from toolchain.frontends.keras.layers import Role
from toolchain.frontends.keras.model import Input, Member, Model, walk

Path: TypeAlias = tuple[str, ...]


@dataclass
class Weights:
    """The tensors of all layers by the layer's path, read when asked for."""

    tensors: dict[Path, dict[str, Tensor]]
    _values: dict[tuple[Path, str], NDArray[np.float32]] = field(default_factory=dict)

    def read(self, path: Path, role: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """One tensor, its stored shape compared with `shape` before anything is read.

        Raises:
            ModelError: the tensor is missing, has another shape, or holds NaN or infinity.
            UnsafeModel: see `Tensor.read`.
        """
        where = "/".join((*path, role))
        tensor = self.tensors.get(path, {}).get(role)
        if tensor is None:
            raise ModelError("the weights have no such tensor", where=where)
        if tensor.shape != shape:
            raise ModelError(f"the stored shape is {tensor.shape}, the configuration asks for {shape}", where=where)
        if (path, role) not in self._values:
            self._values[path, role] = tensor.read()
        return self._values[path, role]


def find_weights(file: ModelFile, model: Model) -> Weights:
    """Assigns the tensors in the weight file to the layers of the model."""
    if not any(roles_of(member) for _, member in walk(model)):
        return Weights({})
    if file.weights is None:
        raise ModelError(
            "the model has no weights",
            fix="Put them beside it as NAME_weights.h5, NAME.weights.h5 or NAME.h5, or name them with --weights",
        )
    found = Finder(file.weights, file.weights_name)
    with hdf5_errors(file.weights_name):
        return Weights(dict(found.tensors(model)))


def roles_of(member: Member) -> tuple[Role, ...]:
    """The weights a layer owns; nested models own none themselves."""
    return () if isinstance(member.content, Model | Input) else member.content.roles


@dataclass
class Finder:
    """Looks the tensors of a model up in a weight file.

    Attributes:
        file: the open file.
        name: how messages call it.
        budget: the bytes that may be read in total.
    """

    file: h5py.File
    name: str
    budget: Budget = field(default_factory=Budget)

    def tensors(self, model: Model) -> Iterator[tuple[Path, dict[str, Tensor]]]:
        """Every layer that has weights, with its tensors by role, unread."""
        root = descend(self.file, "model_weights", self.name) or self.file
        if isinstance(root, h5py.Group) and ("layer_names" in root.attrs or "layer_names0" in root.attrs):
            return self._by_name(root, model)
        for container in ("layers", "_layer_checkpoint_dependencies"):  # the latter in Keras 2.12
            group = descend(self.file, container, self.name)
            if isinstance(group, h5py.Group):
                return self._by_number(group, model, (), container)
        raise ModelError("the file has none of the layouts that Keras writes", where=self.name)

    def _by_number(
        self, group: h5py.Group, model: Model, path: Path, container: str
    ) -> Iterator[tuple[Path, dict[str, Tensor]]]:
        """Keras 3: `layers/<class>[_<count>]/vars/<index>`, layers counted per class in the model's order."""
        counts: dict[str, int] = {}
        for member in model.members:
            if member.is_operation:
                continue
            base = snake_case(member.class_name)
            count = counts[base] = counts.get(base, -1) + 1
            name = f"{base}_{count}" if count else base
            here = (*path, member.name)
            if isinstance(member.content, Model):
                inner = descend(group, f"{name}/{container}", self.name)
                if isinstance(inner, h5py.Group):
                    yield from self._by_number(inner, member.content, here, container)
            elif roles := roles_of(member):
                places = dict.fromkeys(role.place for role in roles)
                parts = [self._numbered(group, name, [r for r in roles if r.place == p], here) for p in places]
                yield here, {role: tensor for part in parts for role, tensor in part.items()}

    def _numbered(self, group: h5py.Group, name: str, roles: Sequence[Role], path: Path) -> dict[str, Tensor]:
        """The tensors of a layer, or of one object inside it."""
        place = f"{name}/{roles[0].place}/vars" if roles[0].place else f"{name}/vars"
        tensors = descend(group, place, self.name)
        stored = len(tensors) if isinstance(tensors, h5py.Group) else 0
        check_count(stored, len(roles), (*path, roles[0].place) if roles[0].place else path)
        return self._open(tensors, [(role.name, str(index)) for index, role in enumerate(roles)], path)

    def _by_name(self, root: h5py.Group, model: Model) -> Iterator[tuple[Path, dict[str, Tensor]]]:
        """Keras 2: a group for each layer of the outermost model, its `weight_names` in Keras's own order."""
        owners = [member for member in model.members if any(True for _ in slots_of(member))]
        if any(role.place for _, member in walk(model) for role in roles_of(member)):
            raise ModelError("the weights of HGQ2's quantizers have no names here", fix="Save the model as .keras")
        groups, names = {}, {}
        for layer in read_names(root, "layer_names", self.name):
            group = descend(root, layer, self.name)
            if isinstance(group, h5py.Group):
                groups[layer], names[layer] = group, read_names(group, "weight_names", self.name)
        layers = [member.name for member in owners]
        if not set(layers) <= groups.keys():
            # Keras pairs layers by position: names differ when the weights come from another copy of the model.
            layers = [layer for layer in groups if names[layer]]
            if len(layers) != len(owners):
                raise ModelError(
                    f"the weights are for {len(layers)} layers, the model has {len(owners)} with weights",
                    where=self.name,
                )
        for member, layer in zip(owners, layers, strict=True):
            slots = list(slots_of(member))
            check_count(len(names[layer]), len(slots), (member.name,))
            found: dict[Path, list[tuple[str, str]]] = {}
            for (path, role), name in zip(in_stored_order(slots, names[layer]), names[layer], strict=True):
                found.setdefault(path, []).append((role, name))
            for path, named in found.items():
                yield path, self._open(groups[layer], named, path)

    def _open(self, group: h5py.Group, named: Sequence[tuple[str, str]], path: Path) -> dict[str, Tensor]:
        """Tensors by role, from pairs of a role and a path below the group."""
        found = {role: open_tensor(group, name, "/".join((*path, role)), self.budget) for role, name in named}
        return {role: tensor for role, tensor in found.items() if tensor is not None}


@dataclass(frozen=True)
class Slot:
    """Place for one tensor: the layer, its role there, and whether it counts as trainable."""

    path: Path
    role: str
    trainable: bool


def slots_of(member: Member) -> Iterator[Slot]:
    """All tensors of a layer or nested model, in the order of its layers."""
    if isinstance(member.content, Model):
        for path, inner in walk(member.content, (member.name,)):
            for role in roles_of(inner):
                yield Slot(path, role.name, role.trainable and inner.trainable and member.trainable)
    else:
        for role in roles_of(member):
            yield Slot((member.name,), role.name, role.trainable)


def in_stored_order(slots: Sequence[Slot], names: Sequence[str]) -> list[tuple[Path, str]]:
    """The slots in the order of the file.

    Keras stores the trainable weights first, but what counts as trainable depends on the state when saving. The names
    `.../<layer>/<weight>` tell where they are one group for each layer; the order within a layer is always the same.
    """
    layers: dict[str, list[Slot]] = {}
    for slot in slots:
        layers.setdefault(slot.path[-1], []).append(slot)
    owners = [(name.split("/")[-2:-1] or [""])[0] for name in names]
    unique = all(len({slot.path for slot in group}) == 1 for group in layers.values())
    if unique and all(owners.count(layer) == len(group) for layer, group in layers.items()):
        queues = {layer: iter(group) for layer, group in layers.items()}
        ordered = [next(queues[owner]) for owner in owners]
    else:
        ordered = sorted(slots, key=lambda slot: not slot.trainable)
    return [(slot.path, slot.role) for slot in ordered]


def check_count(stored: int, wanted: int, path: Path) -> None:
    """Refuses a layer that stores another number of tensors than its configuration asks for."""
    if stored != wanted:
        raise ModelError(
            f"{stored} weight tensors are stored, the configuration asks for {wanted}", where="/".join(path)
        )


def snake_case(name: str) -> str:
    """Keras's own rule: Conv2D is conv2d, PReLU p_re_lu."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
