"""The main job on handwritten digits: a trained network becomes a verified HLS project, in five commands.

    make demo

compiles `digits.onnx` for a board, simulates the test digits in integers, compares accuracies, and checks the
generated C++ against the simulation bit for bit. Everything goes into `build/digits`. Needs the core dependencies, g++
and make; no TensorFlow, no vendor tool. `train.py` made the network and says how.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CALIBRATION_IMAGES = 256

console = Console(highlight=False)


def toolchain(*arguments: object, what: str) -> str:
    """Runs `toolchain ARGUMENTS`, showing the command and its time. Leaves with the same exit code when it fails."""
    words = [str(a) for a in arguments]
    console.print(f"[bold]{what}[/bold]\n  [dim]$ toolchain {shlex.join(words)}[/dim]", soft_wrap=True)
    start = time.perf_counter()
    with console.status("running"):
        done = subprocess.run([sys.executable, "-m", "toolchain", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        console.print(done.stdout + done.stderr, markup=False)
        console.print(f"[red]failed with exit code {done.returncode}[/red]")
        raise SystemExit(done.returncode)
    console.print(f"  [dim]{time.perf_counter() - start:.1f} s[/dim]")
    return done.stdout


def arrays(folder: Path) -> tuple[Path, Path, Path]:
    """Writes the files a user would bring: calibration inputs, test inputs and their labels, pixels 0.0 to 1.0."""
    paths = folder / "calibration.npy", folder / "inputs.npy", folder / "labels.npy"
    with np.load(HERE / "digits.npz") as digits:
        scale = np.float32(16)
        np.save(paths[0], digits["x_train"][:CALIBRATION_IMAGES].astype(np.float32) / scale)
        np.save(paths[1], digits["x_test"].astype(np.float32) / scale)
        np.save(paths[2], digits["y_test"].astype(np.int64))
    return paths


def table(evaluation: dict[str, Any], agreement: str, report: dict[str, Any], seconds: float) -> Table:
    """What the five commands found, on one screen."""
    compared = re.search(r"(\d+) inputs, (\d+) layers, (\d+) integers compared, (\d+) differ", agreement)
    if compared is None:
        raise SystemExit(f"`toolchain verify` said something unexpected: {agreement}")
    images, layers, integers, differing = (int(number) for number in compared.groups())
    hardware, products = report["hardware"], report["multiplications"]
    clock = hardware["clock_mhz"]
    rows = {
        f"accuracy on {evaluation['samples']} test digits, float": f"{evaluation['float_accuracy']:.2%}",
        "accuracy, integer": f"{evaluation['integer_accuracy']:.2%}",
        "differing bits, simulation and C++": f"{differing}",
        f"  integers compared, {images} digits x {layers} layers": f"{integers:,}",
        "parameters": f"{report['parameters']:,}",
        "bytes of weights": f"{sum(report['compression']['breakdown'].values()) // 8:,}",
        "multiplications a digit": f"{products['packed']:,}",
        "estimated latency, cycles": f"{hardware['latency_cycles']:,}",
        f"estimated latency at {clock:g} MHz": f"{hardware['latency_cycles'] / clock:.1f} µs",
        "estimated digits a second": f"{clock * 1e6 / hardware['interval_cycles']:,.0f}",
        "estimated DSP, BRAM36, LUT": f"{hardware['dsp']:,}, {hardware['bram36']:g}, {hardware['lut']:,}",
        "time of this demonstration": f"{seconds:.0f} s",
    }
    result = Table("digits", report["board"], title="Handwritten digits, from trained network to verified hardware")
    result.columns[1].justify = "right"
    for name, value in rows.items():
        result.add_row(name, value)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build/digits", help="folder of all that is made")
    parser.add_argument("--board", default="zcu104", help="see `toolchain boards`")
    parser.add_argument("--verify", type=int, default=500, metavar="N", help="test digits that the C++ is checked on")
    options = parser.parse_args()

    start = time.perf_counter()
    folder = Path(os.path.relpath(options.output))
    folder.mkdir(parents=True, exist_ok=True)
    calibration, inputs, labels = arrays(folder)
    some = folder / "some.npy"
    np.save(some, np.load(inputs)[: options.verify])
    images = len(np.load(some))
    model, project = Path(os.path.relpath(HERE / "digits.onnx")), folder / "project"

    toolchain(
        *("compile", model, "--calibrate", calibration, "--board", options.board, "--force", "-o", project),
        what="Compile the network to integers and to an HLS project",
    )
    toolchain(
        *("simulate", project, "--inputs", inputs, "-o", folder / "outputs.npy"),
        what="Simulate the test digits, as the hardware will compute them",
    )
    evaluation = toolchain(
        *("evaluate", project, "--inputs", inputs, "--labels", labels, "--model", model, "--json"),
        what="Compare the accuracy with the float model's",
    )
    agreement = toolchain(
        *("verify", project, "--inputs", some, "--against", "hls"),
        what=f"Compile the generated C++ and compare {images} images, bit for bit",
    )
    report = toolchain("report", project, "--json", what="Read the report")
    seconds = time.perf_counter() - start
    console.print()
    console.print(table(json.loads(evaluation), agreement, json.loads(report), seconds))
    console.print(f"The project lies in [bold]{project}[/bold].")


if __name__ == "__main__":
    main()
