"""`weights.bin`: every width and shape comes back, every damage is refused, a lie about sizes allocates nothing."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.errors import ModelError, PassError
from toolchain.ir import Constant
from toolchain.packing.container import CHUNK, DESCRIPTOR, HEADER, ROLES, Tensor, pack, unpack


def same(given, got):
    assert len(given) == len(got)
    for a, b in zip(given, got, strict=True):
        assert a.role == b.role
        assert a.constant.shape == b.constant.shape
        assert a.constant.array.ravel().tolist() == b.constant.array.ravel().tolist()
        assert a.constant == b.constant


def limits(width, signed):
    return (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)


def random_tensor(rng, width, signed, shape, role="weights"):
    low, high = limits(width, signed)
    values = [int(rng.integers(0, 2**63)) % (high - low + 1) + low for _ in range(int(np.prod(shape)))]
    if values:
        values[0] = high if not signed else low
    array = np.array(values, dtype=object if width == 64 and not signed else np.int64)
    return Tensor(role, Constant(array.reshape(shape)))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("width", range(1, 65))
def test_every_width(width, signed):
    rng = np.random.default_rng(width)
    tensors = [random_tensor(rng, width, signed, shape) for shape in ((), (1,), (3, 5), (2, 1, 3, 1), (17,))]
    data, breakdown = pack(tensors)
    same(tensors, unpack(data))
    assert sum(breakdown.values()) == 8 * len(data)
    assert data[HEADER.size + 1] == width
    assert breakdown["weights"] == sum(8 * -(-t.constant.array.size * data_width(t) // 8) for t in tensors)


def data_width(tensor):
    low, high = int(tensor.constant.array.min()), int(tensor.constant.array.max())
    signed = low < 0
    return next(w for w in range(1, 65) if limits(w, signed)[0] <= low and high <= limits(w, signed)[1])


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.integers(1, 64), st.booleans(), st.lists(st.integers(0, 4),
    max_size=4)),
                max_size=6), st.integers(0, 99))  # fmt: skip
@settings(max_examples=100)
def test_any_list_of_tensors(specs, seed):
    rng = np.random.default_rng(seed)
    tensors = [random_tensor(rng, width, signed, tuple(shape), role) for role, width, signed, shape in specs]
    data, breakdown = pack(tensors)
    same(tensors, unpack(data))
    assert sum(breakdown.values()) == 8 * len(data)
    assert pack(unpack(data)) == (data, breakdown)


def test_longer_than_a_chunk():
    rng = np.random.default_rng(1)
    for width in (3, 8, 11):
        tensors = [Tensor("tables", Constant(rng.integers(0, 1 << width, CHUNK + 13)))]
        same(tensors, unpack(pack(tensors)[0]))


def test_nothing_at_all():
    data, breakdown = pack([])
    assert unpack(data) == []
    assert breakdown == {"header": 8 * len(data)}


def test_what_cannot_be_stored():
    for values in (np.array([0.5]), np.array([2**64], dtype=object), np.array([-(2**63) - 1], dtype=object)):
        with pytest.raises(PassError):
            pack([Tensor("weights", Constant(values))])


SMALL = [Tensor("weights", Constant(np.arange(-5, 7).reshape(3, 4))), Tensor("biases", Constant(np.array([1000, -3]))),
         Tensor("tables", Constant(np.array(3)))]  # fmt: skip


def test_every_flipped_byte_and_every_truncation_is_refused():
    data, _ = pack(SMALL)
    for at in range(len(data)):
        for flip in range(1, 256):
            with pytest.raises(ModelError):
                unpack(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
    for end in range(len(data)):
        with pytest.raises(ModelError):
            unpack(data[:end])
    for more in (b"\0", b"\xff" * 5, data):
        with pytest.raises(ModelError):
            unpack(data + more)


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def head(count):
    return HEADER.pack(b"DCTW", 1, 0, count)


FORGED = {
    "many tensors": head(2**32 - 1),
    "many empty tensors": head(10**6) + DESCRIPTOR.pack(0, 8, 0, 0) * 3,
    "huge": head(1) + DESCRIPTOR.pack(0, 8, 0, 1) + struct.pack("<I", 2**32 - 1),
    "huge product": head(1) + DESCRIPTOR.pack(0, 64, 1, 4) + struct.pack("<4I", *[2**32 - 1] * 4),
    "product that wraps": head(1) + DESCRIPTOR.pack(0, 1, 0, 4) + struct.pack("<4I", 2**16, 2**16, 2**16, 2**16),
    "rank 255": head(1) + DESCRIPTOR.pack(0, 8, 0, 255) + struct.pack("<255I", *[1] * 255) + b"\0",
    "rank 255 without sizes": head(1) + DESCRIPTOR.pack(0, 8, 0, 255),
    "empty but huge": head(1) + DESCRIPTOR.pack(0, 8, 0, 3) + struct.pack("<3I", 2**32 - 1, 2**32 - 1, 0),
    "width 0": head(1) + DESCRIPTOR.pack(0, 0, 0, 1) + struct.pack("<I", 5),
    "width 65": head(1) + DESCRIPTOR.pack(0, 65, 0, 1) + struct.pack("<I", 1) + b"\0" * 9,
    "signed 2": head(1) + DESCRIPTOR.pack(0, 8, 2, 1) + struct.pack("<I", 1) + b"\0",
    "role": head(1) + DESCRIPTOR.pack(9, 8, 0, 1) + struct.pack("<I", 1) + b"\0",
    "left over": head(1) + DESCRIPTOR.pack(0, 8, 0, 1) + struct.pack("<I", 1) + b"\0\0",
    "too short": head(1) + DESCRIPTOR.pack(0, 8, 0, 1) + struct.pack("<I", 2) + b"\0",
    "version": HEADER.pack(b"DCTW", 2, 0, 0), "zero": HEADER.pack(b"DCTW", 1, 7, 0), "magic": HEADER.pack(b"DCTX", 1,
    0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_containers_allocate_nothing(name):
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            unpack(sealed(FORGED[name]))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nonzero_padding_is_a_second_spelling():
    """One tensor has one spelling: stray bits behind the last element are refused."""
    data, _ = pack([Tensor("weights", Constant(np.array([1, 2, 3])))])
    body = bytearray(data[:-4])
    body[-1] |= 0x80
    with pytest.raises(ModelError):
        unpack(sealed(bytes(body)))
