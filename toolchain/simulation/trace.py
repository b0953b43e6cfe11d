"""Every layer's integers as files: one `.npy` a layer, channels-last, with an index that gives names and types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from toolchain.errors import ConfigurationError
from toolchain.ir import Array
from toolchain.simulation.simulator import Simulator


def check_trace(folder: Path) -> None:
    """Raises ConfigurationError when a trace cannot be written there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError("exists and is not an empty folder", where=str(folder))
    if not folder.resolve().parent.is_dir():
        raise ConfigurationError("the folder to write into does not exist", where=str(folder.resolve().parent))


def write_trace(folder: Path, simulator: Simulator, inputs: Mapping[str, Array]) -> None:
    """Writes `0000.npy`, ... and `index.json` into a new or empty folder."""
    check_trace(folder)
    try:
        folder.mkdir(exist_ok=True)
        index = []
        for number, (name, values) in enumerate(simulator.trace(inputs)):
            file = f"{number:04d}.npy"
            np.save(folder / file, np.ascontiguousarray(values).astype(np.int64))
            index.append({"file": file, "layer": name, "type": str(simulator.graph.types[name])})
        (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(folder)) from None
