"""Reads HDF5 with the checks an untrusted file needs. The only code that touches h5py objects' contents."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h5py
import numpy as np
from numpy.typing import NDArray

from toolchain.errors import ModelError, UnsafeModel

MAX_WEIGHT_BYTES = 2 << 30
MAX_NAMES = 1 << 17
MAX_NAME = 4096
# The most deflate can expand; gzip and shuffle are the only filters Keras users have.
MAX_DEFLATE_RATIO = 1032
HARMLESS_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


@contextmanager
def hdf5_errors(where: str) -> Iterator[None]:
    """Turns what h5py raises on a damaged file into ModelError."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(f"the HDF5 file is damaged ({error})", where=where) from error


def read_text_attribute(group: h5py.Group, name: str, limit: int, where: str) -> str | None:
    """A string attribute, or None when there is none."""
    if name not in group.attrs:
        return None
    attribute = h5py.h5a.open(group.id, name.encode())
    kind = h5py.check_string_dtype(attribute.dtype)
    if attribute.shape != () or kind is None or (kind.length or 0) > limit:
        raise UnsafeModel(f"attribute {name} is not one string of at most {limit} bytes", where=where)
    value = group.attrs[name]
    text = value.decode() if isinstance(value, bytes) else str(value)
    if len(text) > limit:
        raise UnsafeModel(f"attribute {name} is longer than {limit} bytes", where=where)
    return text


def read_names(group: h5py.Group, name: str, where: str) -> list[str]:
    """A list of names, which Keras splits into name0, name1, ... when it is past 64 KiB. Missing is empty."""
    if name in group.attrs:
        return _read_names(group, name, where)
    names: list[str] = []
    part = 0
    while f"{name}{part}" in group.attrs:
        names += _read_names(group, f"{name}{part}", where)
        part += 1
        if len(names) > MAX_NAMES:
            raise UnsafeModel(f"attribute {name} holds more than {MAX_NAMES} names", where=where)
    return names


def _read_names(group: h5py.Group, name: str, where: str) -> list[str]:
    attribute = h5py.h5a.open(group.id, name.encode())
    if attribute.shape in ((0,), None):  # an empty list is stored as float64
        return []
    kind = h5py.check_string_dtype(attribute.dtype)
    if len(attribute.shape) != 1 or attribute.shape[0] > MAX_NAMES or kind is None or (kind.length or 0) > MAX_NAME:
        raise UnsafeModel(f"attribute {name} is not a list of names", where=where)
    names = [value.decode() if isinstance(value, bytes) else str(value) for value in group.attrs[name]]
    if any(len(value) > MAX_NAME for value in names):
        raise UnsafeModel(f"attribute {name} holds a name longer than {MAX_NAME}", where=where)
    return names


def descend(group: h5py.Group, path: str, where: str) -> h5py.Group | h5py.Dataset | None:
    """The object at `path` below `group`, walked by hard links only; None when it does not exist."""
    here = group
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise UnsafeModel(f"the weights name the path {path!r}", where=where)
        if not isinstance(here, h5py.Group):
            return None
        links, name = here.id.links, part.encode()
        if not links.exists(name):
            return None
        # Soft, external and user-defined links can point out of the group or out of the file.
        if links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise UnsafeModel(f"{path!r} is a link, and links are not followed", where=where)
        here = here[part]
    return here


def open_tensor(group: h5py.Group, path: str, where: str, budget: "Budget") -> "Tensor | None":
    """The tensor at `path` below `group`, unread; None when there is none."""
    found = descend(group, path, where)
    if not isinstance(found, h5py.Dataset):
        return None
    # Before anything else: asking a virtual dataset for its shape already opens the files it names.
    if found.is_virtual or found.external:
        raise UnsafeModel("the tensor is stored in another file", where=where)
    return Tensor(found, where, found.file.id.get_filesize(), budget)


@dataclass
class Budget:
    """Bytes of weights that may still be read; shared by all tensors of a file."""

    left: int = MAX_WEIGHT_BYTES


@dataclass(frozen=True)
class Tensor:
    """One stored weight tensor, unread until its shape has been compared with the configuration."""

    dataset: h5py.Dataset
    where: str
    file_bytes: int
    budget: Budget = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The declared shape."""
        with hdf5_errors(self.where):
            shape: tuple[int, ...] | None = self.dataset.shape
        if shape is None:
            raise ModelError("the tensor is empty", where=self.where)
        return shape

    def read(self) -> NDArray[np.float32]:
        """The values as float32, all finite.

        Raises:
            ModelError: NaN, infinity, or values outside float32.
            UnsafeModel: a size, type or storage that weights have no reason for.
        """
        with hdf5_errors(self.where):
            self._check()
            values = np.asarray(self.dataset[()])
        with np.errstate(over="ignore", invalid="ignore"):
            single = np.asarray(values, dtype=np.float32)
        if not np.isfinite(single).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(single))[0])
            raise ModelError(
                f"the weights hold {single[index]} at index {index}",
                where=self.where,
                fix="Retrain or repair the model: NaN and infinity have no fixed-point value",
            )
        return single

    def _check(self) -> None:
        dataset, kind = self.dataset, self.dataset.dtype
        if kind.kind not in "fiu" or kind.itemsize > 8 or kind.subdtype is not None:
            raise UnsafeModel(f"the tensor has type {kind}, weights are numbers", where=self.where)
        plist = dataset.id.get_create_plist()
        filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if not filters <= HARMLESS_FILTERS:
            raise UnsafeModel("the tensor is stored through an unusual filter", where=self.where)
        size = kind.itemsize
        for length in self.shape:  # Python integers: the product of a hostile shape does not wrap
            size *= length
        if size > self.budget.left:
            raise UnsafeModel(f"the weights are larger than {MAX_WEIGHT_BYTES} bytes", where=self.where)
        ratio = MAX_DEFLATE_RATIO if h5py.h5z.FILTER_DEFLATE in filters else 1
        stored = min(dataset.id.get_storage_size(), self.file_bytes)
        if size > stored * ratio:
            raise UnsafeModel(f"the tensor declares {size} bytes, the file holds {stored}", where=self.where)
        self.budget.left -= size
