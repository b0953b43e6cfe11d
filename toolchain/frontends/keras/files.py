"""Reads a Keras model file as data: the configuration as JSON, the weights as HDF5 datasets. Nothing is executed."""

import io
import json
import mmap
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py

from toolchain.errors import ModelError, UnsafeModel
from toolchain.frontends.keras.hdf5 import hdf5_errors, read_text_attribute
from toolchain.frontends.keras.heaps import check_heaps

# Anything a JSON file can hold. Checked value by value where it is used.
Json: TypeAlias = Any

MAX_CONFIG_BYTES = 64 << 20
MAX_FILE_BYTES = 4 << 30
MAX_MEMBER_BYTES = 2 << 30
MAX_JSON_DEPTH = 100
MAX_STRING = 1 << 16
# Deflate cannot do better than 1032; float weights compress to half. Small members may be anything.
MAX_ZIP_RATIO = 200
ZIP_RATIO_FREE_BYTES = 16 << 20

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
WEIGHT_SUFFIXES = ("_weights.h5", ".weights.h5", ".h5")


@dataclass(frozen=True)
class ModelFile:
    """A model file opened for reading.

    Attributes:
        config: the serialized model, `{"class_name": ..., "config": ...}`.
        keras_major: 2 or 3, or None where the file does not tell.
        weights: the open HDF5 file with the weights, or None when there is none.
        weights_name: how error messages call that file.
    """

    config: dict[str, Json]
    keras_major: int | None
    weights: h5py.File | None
    weights_name: str


@contextmanager
def open_model(path: Path, weights: Path | None) -> Iterator[ModelFile]:
    """Opens a `.keras`, `.h5` or `.json` model, told apart by content.

    Raises:
        ModelError: the file is missing, damaged or no Keras model.
        UnsafeModel: it asks for what a model must not do.
    """
    signature = _signature(path)
    with ExitStack() as stack:
        if signature.startswith(ZIP_SIGNATURE):
            file = _open_zip(path, weights, stack)
        elif signature.startswith(HDF5_SIGNATURE):
            file = _open_hdf5(path, weights, stack)
        elif path.suffix == ".json":
            file = _open_json(path, weights, stack)
        else:
            raise ModelError(
                "this is no Keras model: neither a zip (.keras) nor HDF5 (.h5)",
                where=path.name,
                fix="Save it with model.save('name.keras')",
            )
        yield file


def _signature(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError("this is not a file", where=path.name)
        if status.st_size > MAX_FILE_BYTES:
            raise UnsafeModel(f"the file has {status.st_size} bytes, the limit is {MAX_FILE_BYTES}", where=path.name)
        with path.open("rb") as stream:
            return stream.read(8)
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror or error})", where=path.name) from error
    except ValueError as error:  # a NUL in the path
        raise ModelError("this is no path to a file", where=repr(str(path))) from error


def _open_zip(path: Path, weights: Path | None, stack: ExitStack) -> ModelFile:
    with _zip_errors(path), zipfile.ZipFile(path) as archive:
        members = _members(archive, path)
        config, metadata = (
            parse_json(_read_member(archive, members, name, MAX_CONFIG_BYTES, path), f"{path.name}/{name}")
            for name in ("config.json", "metadata.json")
        )
        content = b""
        if weights is None:
            if "model.weights.h5" not in members and any(name.startswith("model.weights") for name in members):
                raise ModelError(
                    "weights in shards are not supported", where=path.name, fix="Save the model without max_shard_size"
                )
            content = _read_member(archive, members, "model.weights.h5", MAX_MEMBER_BYTES, path)
    major = _major(metadata.get("keras_version"), config)
    if weights is not None:
        return ModelFile(config, major, _open_weights(weights, stack), weights.name)
    name = f"{path.name}/model.weights.h5"
    check_heaps(content, name)
    with hdf5_errors(name):
        return ModelFile(config, major, stack.enter_context(h5py.File(io.BytesIO(content), "r")), name)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename
        # Nothing is ever extracted, but a name like this has no honest reason.
        if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
            raise UnsafeModel(f"the archive holds a path outside itself: {name!r}", where=path.name)
        if name in members:
            raise UnsafeModel(f"the archive holds {name!r} twice", where=path.name)
        members[name] = member
    return members


def _read_member(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, limit: int, path: Path
) -> bytes:
    member = members.get(name)
    if member is None:
        raise ModelError(f"the archive has no {name}", where=path.name, fix="Save it with model.save('name.keras')")
    allowed = max(member.compress_size * MAX_ZIP_RATIO, ZIP_RATIO_FREE_BYTES)
    if member.file_size > min(limit, allowed):
        raise UnsafeModel(
            f"{name} declares {member.file_size} bytes from {member.compress_size} compressed", where=path.name
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeModel(f"{name} is compressed by an unusual method", where=path.name)
    content = bytearray()
    with archive.open(member) as stream:
        while chunk := stream.read(1 << 20):
            content += chunk
            if len(content) > member.file_size:
                raise UnsafeModel(f"{name} is larger than the {member.file_size} bytes it declares", where=path.name)
    if len(content) != member.file_size:
        raise ModelError(f"{name} is truncated", where=path.name)
    return bytes(content)


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    # RuntimeError is zipfile's word for an encrypted member, NotImplementedError for an unknown method.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError) as error:
        raise ModelError(f"the archive is damaged ({error})", where=path.name) from error


def _open_hdf5(path: Path, weights: Path | None, stack: ExitStack) -> ModelFile:
    file = _open_checked(path, stack)
    with hdf5_errors(path.name):
        text = read_text_attribute(file, "model_config", MAX_CONFIG_BYTES, path.name)
        version = read_text_attribute(file, "keras_version", 256, path.name)
    if text is None:
        raise ModelError(
            "the file holds weights but no model_config",
            where=path.name,
            fix="Give the architecture (model.to_json()) as the model and this file as --weights",
        )
    # h5py gives bytes that are no UTF-8 as surrogates, which the parser then refuses.
    config = parse_json(text.encode(errors="surrogatepass"), f"{path.name}/model_config")
    if weights is not None:
        return ModelFile(config, _major(version, config), _open_weights(weights, stack), weights.name)
    return ModelFile(config, _major(version, config), file, path.name)


def _open_json(path: Path, weights: Path | None, stack: ExitStack) -> ModelFile:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UnsafeModel(f"the configuration is larger than {MAX_CONFIG_BYTES} bytes", where=path.name)
    config = parse_json(path.read_bytes(), path.name)
    weights = weights or _weights_beside(path)
    file = None if weights is None else _open_weights(weights, stack)
    return ModelFile(config, _major(config.get("keras_version"), config), file, weights.name if weights else "")


def _weights_beside(path: Path) -> Path | None:
    for suffix in WEIGHT_SUFFIXES:
        candidate = path.with_name(path.stem + suffix)
        try:
            status = candidate.lstat()
        except (OSError, ValueError):
            continue
        # A downloaded folder must not make us read a file of the user's from somewhere else.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise UnsafeModel(
                f"{candidate.name} is a link, and links are not followed",
                where=path.name,
                fix="Name the weights with --weights if they are meant",
            )
        return candidate
    return None


def _open_weights(path: Path, stack: ExitStack) -> h5py.File:
    if not _signature(path).startswith(HDF5_SIGNATURE):
        raise ModelError("the weights are not an HDF5 file", where=path.name)
    return _open_checked(path, stack)


def _open_checked(path: Path, stack: ExitStack) -> h5py.File:
    with hdf5_errors(path.name):
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            check_heaps(content, path.name)
        return stack.enter_context(h5py.File(path, "r"))


def parse_json(content: bytes, where: str) -> dict[str, Json]:
    """Parses a JSON object, refusing what only a hostile file holds: deep nesting, repeated keys, endless strings."""
    if len(content) > MAX_CONFIG_BYTES:
        raise UnsafeModel(f"the configuration is larger than {MAX_CONFIG_BYTES} bytes", where=where)
    try:
        value = json.loads(content, object_pairs_hook=_unique_keys)
    except RecursionError as error:
        raise UnsafeModel("the configuration is nested too deeply", where=where) from error
    except ValueError as error:  # also a bad encoding, and an integer of thousands of digits
        raise ModelError(f"the configuration is not valid JSON ({error})", where=where) from error
    _check_extent(value, where)
    if not isinstance(value, dict):
        raise ModelError("the configuration is not a JSON object", where=where)
    return value


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return value


def _check_extent(value: Json, where: str) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                below.extend(item.keys())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str) and len(item) > MAX_STRING:
                raise UnsafeModel(f"the configuration holds a string of {len(item)} characters", where=where)
        if not below:
            return
        level = below
    raise UnsafeModel(f"the configuration is nested deeper than {MAX_JSON_DEPTH} levels", where=where)


def _major(version: Json, config: dict[str, Json]) -> int | None:
    if isinstance(version, str) and version[:2] in ("1.", "2.", "3."):
        return int(version[0])
    # Keras 3 writes no version into to_json(), but the module of the model.
    module = config.get("module")
    if version is None and isinstance(module, str) and module.split(".")[0] == "keras":
        return 3
    return None
