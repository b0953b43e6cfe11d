"""The paper's ratios on numbers that can be checked by hand."""

import numpy as np
import pytest

from toolchain.errors import PassError
from toolchain.ir import Constant
from toolchain.packing.basis import Transform
from toolchain.packing.packed import Clusters, Coding
from toolchain.packing.ratios import PublishedSize, compression_ratio, packed_multiplications, speed_up_ratio


def test_compression():
    """Two layers by hand: 32 (100 9 + 10 25) / (110 4 + 1000 + 500 + 32 20 + 32 16 25)."""
    layers = [PublishedSize(100, 9, 1000.0), PublishedSize(10, 25, 500.0)]
    assert compression_ratio(layers, 16, 20) == pytest.approx(36800 / (440 + 1500 + 640 + 12800))
    assert compression_ratio([PublishedSize(1000, 9, 9000.0)], 1, 0) == pytest.approx(288000 / (9000 + 288))


def test_speed_up():
    """A centre is paid once per block of inputs, a level for each output."""
    levels = np.zeros((9, 4, 10), int)
    levels[0, :, :3] = 1
    plain = Coding(Constant(levels), Transform("taps", 3, 3), (0,) * 9)
    centres = np.zeros((2, 9), int)
    centres[1, :5] = 7
    shared = Clusters(Constant(centres), Constant(np.zeros((4, 10), int)))
    clustered = Coding(Constant(levels), Transform("taps", 3, 3), (0,) * 9, shared)
    assert packed_multiplications(plain, 100) == 1200
    assert packed_multiplications(clustered, 100) == 1200 + 100 * 4 * 5
    assert speed_up_ratio([(plain, 100)]) == 30
    assert speed_up_ratio([(plain, 100), (clustered, 1)]) == pytest.approx(36360 / (1200 + 32))
    assert speed_up_ratio([(Coding(Constant(levels * 0)), 1)]) == float("inf")


def test_nothing_has_no_ratio():
    with pytest.raises(PassError):
        compression_ratio([], 16, 0)
    with pytest.raises(PassError):
        compression_ratio([PublishedSize(1, 9, 8.0)], 0, 0)
