"""What CNNpack reports: its compression ratio r_c and its speed-up r_s, by its own formulas.

They leave out what a file and a circuit cost besides; `toolchain.report` counts that. Kept for comparison with the
published figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolchain.errors import PassError
from toolchain.packing.packed import Coding

FLOAT = 32
"""Bits of a weight before, of an entry of a centre, and of an entry of the Huffman dictionary."""


@dataclass(frozen=True)
class PublishedSize:
    """A layer as r_c sees it: N `slices` (2-D kernels) of d^2 `taps`, whose coded residuals take B `bits`."""

    slices: int
    taps: int
    bits: float


def compression_ratio(layers: Sequence[PublishedSize], centres: int, dictionary: int) -> float:
    """r_c = sum 32 N d^2 / (sum (N log2 K + B) + 32 H + 32 K d^2), sums over layers.

    K `centres` of the largest d^2 are shared by all layers, as are the H entries of the `dictionary` (Wang et al.,
    CNNpack, NIPS 2016, section 5, and DOI 10.1109/TPAMI.2018.2857824). Raises PassError without layers or for K < 1.
    """
    if not layers or centres < 1:
        raise PassError("a compression ratio needs layers, and a centre or more")
    dense = sum(FLOAT * layer.slices * layer.taps for layer in layers)
    packed = sum(layer.slices * float(np.log2(centres)) + layer.bits for layer in layers)
    return dense / (packed + FLOAT * dictionary + FLOAT * centres * max(layer.taps for layer in layers))


def packed_multiplications(coding: Coding, pixels: int) -> int:
    """Multiplications for `pixels` output pixels: by nonzero levels, and by nonzero entries of centres.

    A centre's response is the same for all outputs: it is paid once for each block of inputs.
    """
    count = int(np.count_nonzero(coding.levels.array))
    if coding.clusters:
        taps, channels, _ = coding.levels.shape
        blocks = taps * channels // coding.transform.size
        count += blocks * int(np.count_nonzero(coding.clusters.centres.array))
    return pixels * count


def speed_up_ratio(layers: Sequence[tuple[Coding, int]]) -> float:
    """r_s = dense multiplications / packed ones over layers and their output pixels; infinite where all levels are 0.

    Additions, those of the basis stage among them, are left out (Wang et al., CNNpack, NIPS 2016, section 5).
    """
    dense = sum(coding.levels.array.size * pixels for coding, pixels in layers)
    packed = sum(packed_multiplications(coding, pixels) for coding, pixels in layers)
    return dense / packed if packed else float("inf")
