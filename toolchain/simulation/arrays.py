"""Users' arrays: `.npy` for one input or output, `.npz` keyed by name for several. Never pickled objects."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from toolchain.errors import ConfigurationError, InputError
from toolchain.ir import Array


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Arrays by input name. A `.npy`, or an `.npz` of one array, serves a model of one input.

    Raises InputError when the file cannot be read, holds no numbers, or lacks an input.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = np.load(path, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                arrays = {"": loaded}
            else:
                with loaded:
                    arrays = {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except Exception as error:  # noqa: BLE001 - damaged archives and headers raise every kind of exception
        raise InputError(
            f"is no array file: {str(error).splitlines()[0] if str(error) else 'empty'}",
            where=str(path),
            fix="Write it with numpy.save or numpy.savez.",
        ) from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"holds {name!r}, which is no array", where=str(path), fix="Write it with numpy.savez.")
        if array.dtype.kind not in "fiub":
            raise InputError(
                f"holds elements of type {array.dtype}, numbers are needed", where=f"{path} {name}".strip()
            )
    if len(names) == 1:
        if len(arrays) == 1:
            return {names[0]: next(iter(arrays.values()))}
        if names[0] in arrays:
            return {names[0]: arrays[names[0]]}
        if "x" in arrays:
            return {names[0]: arrays["x"]}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(
            f"lacks the input {missing[0]!r}", where=str(path), fix=f"It needs the arrays {', '.join(names)} (.npz)."
        )
    return {name: arrays[name] for name in names}


def check_target(path: Path, names: Sequence[str]) -> None:
    """Raises ConfigurationError when arrays of these names do not go into a file called so."""
    if len(names) > 1 and path.suffix == ".npy":
        raise ConfigurationError(
            f"holds one array, there are {len(names)}: {', '.join(names)}",
            where=str(path),
            fix=f"Write {path.with_suffix('.npz').name}.",
        )


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """One array as `.npy`, several as `.npz`; written beside the target and renamed."""
    check_target(path, list(arrays))
    try:
        handle, name = tempfile.mkstemp(prefix=".toolchain-", dir=path.resolve().parent)
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            if path.suffix == ".npz" or len(arrays) > 1:
                write_npz(file, arrays)
            else:
                np.save(file, next(iter(arrays.values())))
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink()
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(path)) from None
    except BaseException:
        Path(name).unlink()
        raise


def write_npz(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """What `numpy.savez` writes, but for every name (`file` is one of its own parameters), and without times."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
