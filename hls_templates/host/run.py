"""Runs the accelerator on arrays in files: python3 run.py --image FILE --inputs X.npy --outputs Y.npy.

Arrays are `.npy` for one input or output and `.npz` by name for several, batch first. The last line of the standard
output is a JSON object: build_id, frames, seconds, frames_per_second. Exit code 0, or 2 and a line `error: ...`.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from dct_accelerator import Accelerator, AcceleratorError, open_accelerator


class Parser(argparse.ArgumentParser):
    """Its errors are those of this program."""

    def error(self, message: str) -> NoReturn:
        raise AcceleratorError(message)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    try:
        options = parser().parse_args(arguments)
        if options.repeat < 1:
            raise AcceleratorError(f"--repeat {options.repeat}: is less than 1")
        with open_accelerator(options.image, timeout=options.timeout, batch=options.batch, device=options.device) as it:
            run(it, options)
    except (AcceleratorError, OSError, RuntimeError, MemoryError) as error:
        sys.stderr.write("error: {}\n".format(" ".join(str(error).split()) or type(error).__name__))
        return 2
    return 0


def parser() -> Parser:
    """The options."""
    result = Parser(description="Runs the accelerator on arrays in files.")
    result.add_argument("--image", required=True, help=".bit (with .hwh beside it) or .xclbin")
    result.add_argument("--inputs", required=True, help=".npy or .npz")
    result.add_argument("--outputs", required=True, help=".npy or .npz")
    result.add_argument("--raw", action="store_true", help="write raw integers, not real numbers")
    result.add_argument("--weights", help="a weight container to load first")
    result.add_argument("--repeat", type=int, default=1, help="how often to run, to measure throughput")
    result.add_argument("--batch", type=int, help="frames of a call at most")
    result.add_argument("--timeout", type=float, default=10.0, help="seconds for a call")
    result.add_argument("--device", type=int, default=0, help="number of the XRT device")
    return result


def run(accelerator: Accelerator, options: argparse.Namespace) -> None:
    """Reads, runs, writes, and prints the figures."""
    names = [one.name for one in accelerator.description.outputs]
    target = Path(options.outputs)
    if len(names) > 1 and target.suffix != ".npz":
        raise AcceleratorError(f"{target}: there are {len(names)} outputs: {', '.join(names)}. Write an .npz.")
    arrays = read(Path(options.inputs), [one.name for one in accelerator.description.inputs])
    if options.weights:
        accelerator.load_weights(options.weights)
    predict = accelerator.predict_raw if options.raw else accelerator.predict
    frames, seconds = 0, 0.0
    for _ in range(options.repeat):
        results = predict(arrays)
        frames += accelerator.frames
        seconds += accelerator.seconds
    write(target, {names[0]: results} if isinstance(results, np.ndarray) else results)
    figures = {
        "build_id": accelerator.build_id,
        "frames": frames,
        "seconds": seconds,
        "frames_per_second": frames / seconds if seconds > 0 else 0.0,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def read(path: Path, names: list[str]) -> np.ndarray | dict[str, np.ndarray]:
    """Arrays by input name."""
    try:
        content = np.load(str(path), allow_pickle=False)
        arrays = {"": content} if isinstance(content, np.ndarray) else {name: content[name] for name in content.files}
    except OSError as error:
        raise AcceleratorError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - damaged archives raise every kind of exception
        raise AcceleratorError(f"{path}: is no array file: {error}") from None
    if len(names) == 1 and len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise AcceleratorError(
            f"{path}: lacks the input {missing[0]!r}. It needs the arrays {', '.join(names)} (.npz)."
        )
    return {name: arrays[name] for name in names}


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Written beside the target and renamed, so that there is no half a file."""
    staging = path.with_name(path.name + ".part")
    try:
        with staging.open("wb") as file:
            if path.suffix == ".npz":
                write_npz(file, arrays)
            else:
                np.save(file, next(iter(arrays.values())))
        staging.replace(path)
    except OSError as error:
        raise AcceleratorError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        if staging.exists():
            staging.unlink()


def write_npz(file: IO[bytes], arrays: dict[str, np.ndarray]) -> None:
    """What `numpy.savez` writes, but for every name: `file` is one of its own parameters."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


if __name__ == "__main__":
    sys.exit(main())
