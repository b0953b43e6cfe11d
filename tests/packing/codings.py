"""Random packed weights and containers, for the tests of the packing."""

import struct
import zlib

import numpy as np

from toolchain.ir import Constant
from toolchain.packing import choice
from toolchain.packing.basis import Transform
from toolchain.packing.container import Tensor
from toolchain.packing.packed import Clusters, Coding, Packed

LARGEST = (1 << 17) - 1
TRANSFORMS = [
    ("none", 1, 1), ("taps", 3, 3), ("channels", 1, 4), ("taps", 5, 5), ("channels", 3, 2), ("taps", 1, 7),
    ("channels", 1, 1), ("taps", 2, 6), ("channels", 11, 1), ("taps", 8, 9), ("channels", 10, 4), ("taps", 11, 11),
]  # fmt: skip
DENSITIES = (0.02, 0.3, 1, 0.1, 0)
SCALES = (1, 2.5, 30, 900, 30000)


def random_levels(rng, shape, density, scale):
    values = np.rint(rng.laplace(0, scale, shape)) * (rng.random(shape) < density)
    return np.clip(values, -LARGEST, LARGEST).astype(np.int64)


def random_coding(rng, number, clustered=None, transform=None):
    """The number picks transform, density and width, so that a list of numbers covers their combinations."""
    transform = Transform(*(transform or TRANSFORMS[number % len(TRANSFORMS)]))
    taps = transform.size if transform.kind == "taps" else int(rng.choice([1, 2, 9]))
    channels = int(rng.integers(1, 6)) * (transform.size if transform.kind == "channels" else 1)
    outputs = int(rng.integers(1, 25))
    density, scale = DENSITIES[number // 2 % len(DENSITIES)], SCALES[number // 3 % len(SCALES)]
    levels = random_levels(rng, (taps, channels, outputs), density, scale)
    clusters = None
    if number % 3 == 1 if clustered is None else clustered:
        centres = int(rng.choice([1, 2, 3, 17]))
        clusters = Clusters(
            Constant(
                np.clip(np.rint(rng.normal(0, 2 * scale, (centres, transform.size))), -LARGEST, LARGEST).astype(int)
            ),
            Constant(rng.integers(0, centres, (taps * channels // transform.size, outputs))),
        )
    shifts = tuple(int(s) for s in rng.integers(0, 5, transform.size))
    return Coding(Constant(levels), transform, shifts, clusters, int(rng.choice([0, 0, 1, 7])))


def random_tensor(rng, number, **options):
    coding = random_coding(rng, number, **options)
    taps, channels, outputs = coding.levels.shape
    shapes = [(taps, channels, outputs), (taps * channels, outputs), (1, taps, channels, outputs)]
    return Tensor("weights", Packed(coding, shapes[number % 3]))


def force(monkeypatch, method):
    """Makes `pack` use one method for everything."""
    monkeypatch.setattr(choice.Layer, "ranked", property(lambda self: [(0.0, method)]))
    monkeypatch.setattr(choice, "FILLER_SHARE", 0)


def sealed(body):
    """The container of these bytes, its length and checksum made right."""
    body = body[:12] + struct.pack("<I", len(body) + 4) + body[16:]
    return body + struct.pack("<I", zlib.crc32(body))
