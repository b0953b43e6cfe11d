"""Accuracy of integer programs beside their float models, without retraining, on all test data of `../shared/data`.

python benchmarks/accuracy.py [--data FOLDER] [--networks lenet,resnet8,resnet20]

Prints one line a network and bit width. The float model runs in ONNX Runtime, the integer program in the fast engine
(equal to the reference engine and the C simulation, bit for bit; `toolchain verify` shows that).
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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


NETWORKS: dict[str, tuple[str, str, str, Callable[..., Pair]]] = {
    "lenet": ("mnist/lenet_caffe.onnx", "mnist/train.npz", "mnist/test.npz", mnist),
    "resnet8": ("mlperf_tiny/ic_resnet8.h5", "cifar10/train_jpeg.npz", "cifar10/test_jpeg.npz", pictures),
    "resnet20": ("cifar10/resnet20.onnx", "cifar10/train_jpeg.npz", "cifar10/test_jpeg.npz", normalized),
}
BITS = ((8, 8), (6, 8))
CALIBRATION_ROWS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    arguments = parser.parse_args()
    print(f"{'network':<10} {'bits w/a':>8} {'samples':>8} {'float':>8} {'integer':>8} {'lost':>7} {'compile s':>10}")
    for name in arguments.networks.split(","):
        model, train, test, read = NETWORKS[name]
        calibration, _ = read(arguments.data / train, CALIBRATION_ROWS)
        x, y = read(arguments.data / test)
        only = {"x": x}
        with tempfile.TemporaryDirectory() as folder:
            floating = None
            for weight_bits, activation_bits in BITS:
                start = time.perf_counter()
                project = toolchain.compile(
                    arguments.data / model,
                    Path(folder) / f"{name}_{weight_bits}",
                    calibrate=calibration,
                    weight_bits=weight_bits,
                    activation_bits=activation_bits,
                    pack="none",
                )
                seconds = time.perf_counter() - start
                given = project.graph.inputs[0].name
                if floating is None:
                    shapes = {given: project.graph.inputs[0].model_shape}
                    scores = run_float_model(arguments.data / model, None, {given: only["x"]}, shapes, lambda *_: None)
                    floating = float((classes(scores) == y).mean())
                integer = float((classes(project.simulator().predict(x)) == y).mean())
                print(
                    f"{name:<10} {f'{weight_bits}/{activation_bits}':>8} {len(y):>8} {floating:>8.4f} {integer:>8.4f} "
                    f"{100 * (floating - integer):>6.2f}p {seconds:>10.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
