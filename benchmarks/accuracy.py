"""Accuracy of integer programs beside their float models, without retraining, on all test data of `../shared/data`.

python benchmarks/accuracy.py [--data FOLDER] [--networks lenet,resnet8,resnet20] [--settings 8/8,6/8,packed]

Prints one line a network and setting: bits of plain weights and of activations, or weights packed within a budget. The
float model runs in ONNX Runtime, the integer program in the fast engine (equal to the reference engine and the C
simulation, bit for bit; `toolchain verify` shows that).
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import toolchain
from toolchain.report.accuracy import classes, run_float_model

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
Pair = tuple[np.ndarray, np.ndarray]


def mnist(path: Path, count: int | None = None) -> Pair:
    with np.load(path) as z:
        return z["x"][:count, None].astype(np.float32) / 256, z["y"][:count].astype(np.int64)


def pictures(path: Path, count: int | None = None) -> Pair:
    with np.load(path) as z:
        data, offsets, labels = z["bytes"], z["offsets"], z["y"]
        rows = range(len(labels) if count is None else count)
        images = [np.asarray(Image.open(io.BytesIO(data[offsets[k] : offsets[k + 1]].tobytes()))) for k in rows]
    return np.stack(images).astype(np.float32), labels[: len(images)].astype(np.int64)


def normalized(path: Path, count: int | None = None) -> Pair:
    x, y = pictures(path, count)
    return ((x / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2), y


CIFAR = ("cifar10/train_jpeg.npz", "cifar10/test_jpeg.npz")
NETWORKS: dict[str, tuple[str, str, str, Callable[..., Pair], str, int]] = {
    "lenet": ("mnist/lenet_caffe.onnx", "mnist/train.npz", "mnist/test.npz", mnist, "60x", 4000),
    "resnet8": ("mlperf_tiny/ic_resnet8.h5", *CIFAR, pictures, "9x", 512),
    "resnet20": ("cifar10/resnet20.onnx", *CIFAR, normalized, "14x", 512),
}
"""Model, data to calibrate with, data to test on, how to read them, and the budget of packing with its rows."""
SETTINGS: dict[str, dict[str, Any]] = {
    "8/8": {"pack": "none", "weight_bits": 8},
    "6/8": {"pack": "none", "weight_bits": 6},
    "packed": {"pack": "auto"},
}
CALIBRATION_ROWS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--settings", default=",".join(SETTINGS))
    arguments = parser.parse_args()
    columns = ("setting", "rows", "bytes", "x float32", "samples", "float", "integer", "lost", "compile s")
    print(f"{'network':<10}" + "".join(f"{name:>10}" for name in columns))
    for name in arguments.networks.split(","):
        model, train, test, read, budget, most = NETWORKS[name]
        calibration, _ = read(arguments.data / train, most)
        x, y = read(arguments.data / test)
        with tempfile.TemporaryDirectory() as folder:
            floating = None
            for setting in arguments.settings.split(","):
                rows, options = CALIBRATION_ROWS, SETTINGS[setting]
                label = setting
                if setting == "packed":
                    rows, options, label = most, {**options, "budget": budget}, budget
                start = time.perf_counter()
                target = Path(folder) / setting.replace("/", "_")
                project = toolchain.compile(arguments.data / model, target, calibrate=calibration[:rows], **options)
                seconds = time.perf_counter() - start
                given = project.graph.inputs[0]
                if floating is None:
                    shapes = {given.name: given.model_shape}
                    scores = run_float_model(arguments.data / model, None, {given.name: x}, shapes, lambda *_: None)
                    floating = float((classes(scores) == y).mean())
                integer = float((classes(project.simulator().predict(x)) == y).mean())
                size = (target / "weights.bin").stat().st_size
                ratio = project.report["compression"]["ratio_float32"]
                print(
                    f"{name:<10}{label:>10}{rows:>10}{size:>10}{ratio:>10.1f}{len(y):>10}{floating:>10.4f}{integer:>10.4f}"
                    f"{100 * (floating - integer):>9.2f}p{seconds:>10.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
