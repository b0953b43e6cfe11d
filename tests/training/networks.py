"""Small float networks of the kinds that are trained, and data that they can learn."""

from pathlib import Path

import numpy as np

from tests.small import Model

CLASSES = 4
SHAPE = (2, 8, 8)


def data(rows, seed=0):
    """x (rows, *SHAPE) float32 of four noisy patterns, and their classes."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).normal(0, 1, (CLASSES, *SHAPE)).astype(np.float32)
    y = rng.integers(0, CLASSES, rows)
    return patterns[y] + rng.normal(0, 0.7, (rows, *SHAPE)).astype(np.float32), y


def _convolution(model, x, channels, outputs, kernel=3, group=1, stride=1):
    weights, bias = (
        model.noise(outputs, channels // group, kernel, kernel),
        model.constant(model.rng.normal(size=outputs) / 4),
    )
    pads = [kernel // 2] * 4
    y = model.add("Conv", x, weights, bias, group=group, pads=pads, strides=[stride] * 2, kernel_shape=[kernel] * 2)
    return model.add("Relu", y)


def _end(model, x, size):
    y = model.add("Flatten", x)
    scores = model.add("Gemm", y, model.noise(size, CLASSES), model.constant(np.zeros(CLASSES)))
    model.output(scores)


def plain(model):
    """Two convolutions and a matrix, as LeNet has them."""
    x = _convolution(model, model.input("x", 1, *SHAPE), 2, 8, 5)
    x = model.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    _end(model, _convolution(model, x, 8, 8), 128)


def residual(model):
    """A residual, and the mean of the picture."""
    x = _convolution(model, model.input("x", 1, *SHAPE), 2, 8)
    y = model.add("Conv", _convolution(model, x, 8, 8), model.noise(8, 8, 3, 3), pads=[1] * 4, kernel_shape=[3, 3])
    x = model.add("GlobalAveragePool", model.add("Relu", model.add("Add", x, y)))
    _end(model, x, 8)


def depthwise(model):
    """Depthwise and pointwise convolutions, a softmax at the end."""
    x = _convolution(model, model.input("x", 1, *SHAPE), 2, 8, stride=2)
    x = _convolution(model, _convolution(model, x, 8, 8, group=8), 8, 8, 1)
    x = model.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = model.add("Flatten", x)
    scores = model.add("Gemm", y, model.noise(32, CLASSES), model.constant(np.zeros(CLASSES)))
    model.output(model.add("Softmax", scores))


NETWORKS = {"plain": plain, "residual": residual, "depthwise": depthwise}


def write(name, folder) -> Path:
    """The ONNX file of a network."""
    model = Model()
    NETWORKS[name](model)
    path = Path(folder) / f"{name}.onnx"
    path.write_bytes(model.proto(name).SerializeToString())
    return path
