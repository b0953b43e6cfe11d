"""Every layer's integers as files: one `.npy` a layer, channels-last, with an index that gives names and types."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from toolchain.errors import ConfigurationError
from toolchain.ir import Array
from toolchain.simulation.simulator import Simulator, check_inputs


def check_trace(folder: Path) -> None:
    """Raises ConfigurationError when a trace cannot be written there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError("exists and is not an empty folder", where=str(folder))
    if not folder.resolve().parent.is_dir():
        raise ConfigurationError("the folder to write into does not exist", where=str(folder.resolve().parent))


def write_trace(
    folder: Path,
    simulator: Simulator,
    inputs: Mapping[str, Array],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Array]:
    """Writes `0000.npy`, ... and `index.json` into a new or empty folder, batch by batch; gives the raw outputs.

    What was written is removed when not all of it can be.
    """
    check_trace(folder)
    rows = len(next(iter(check_inputs(simulator.graph, inputs).values())))
    files: dict[str, Path] = {}

    def observer(name: str, values: Array) -> None:
        if name not in files:
            files[name] = folder / f"{len(files):04d}.npy"
            with files[name].open("xb") as file:
                header = {"descr": "<i8", "fortran_order": False, "shape": (rows, *values.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
        try:
            integers = np.ascontiguousarray(values).astype("<i8")
        except OverflowError:
            raise ConfigurationError("has integers too wide for a trace", where=name) from None
        with files[name].open("ab") as file:  # batches are consecutive rows
            file.write(integers.tobytes())

    new = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        outputs = simulator.raw_outputs(inputs, progress, observer)
        index = [
            {"file": path.name, "layer": name, "type": str(simulator.graph.types[name])} for name, path in files.items()
        ]
        (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    except BaseException as error:
        for path in (*files.values(), folder / "index.json"):
            path.unlink(missing_ok=True)
        if new and folder.exists():
            folder.rmdir()
        if isinstance(error, OSError):
            raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(folder)) from None
        raise
    return outputs
