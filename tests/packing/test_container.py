"""`weights.bin`: everything comes back, every damage is refused, a lie about sizes allocates nothing."""

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packing.codings import force, random_levels, random_tensor, sealed
from toolchain.errors import ModelError, PassError
from toolchain.ir import Constant
from toolchain.packing import container
from toolchain.packing.basis import Transform
from toolchain.packing.bits import CHUNK, pack_elements
from toolchain.packing.choice import Method
from toolchain.packing.container import Tensor, describe, pack, unpack
from toolchain.packing.packed import Clusters, Coding, Packed
from toolchain.packing.records import CODED_FORM, CODED_TAIL, DICTIONARY, HEADER, RAW_FORM, ROLES, TENSOR


def same(given, got):
    assert len(given) == len(got)
    for a, b in zip(given, got, strict=True):
        assert a.role == b.role
        assert type(a.constant) is type(b.constant)
        assert a.constant.array.ravel().tolist() == b.constant.array.ravel().tolist()
        assert a.constant == b.constant


def limits(width, signed):
    return (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)


def raw_tensor(rng, width, signed, shape, role="weights"):
    """Elements of exactly this width, an odd one among them."""
    low, high = limits(width, signed)
    values = [int(rng.integers(0, 2**63)) % (high - low + 1) + low for _ in range(int(np.prod(shape)))]
    if values:
        values[0] = high if not signed else low
    if len(values) > 1:
        values[1] = -1 if signed else 1
    array = np.array(values, dtype=object if width == 64 and not signed else np.int64)
    return Tensor(role, Constant(array.reshape(shape)))


def packed(levels, *coding, shape=None):
    array = np.asarray(levels)
    return Tensor("weights", Packed(Coding(Constant(array), *coding), shape or array.shape))


# Raw tensors.


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("width", range(1, 65))
def test_every_width(width, signed):
    rng = np.random.default_rng(width)
    tensors = [raw_tensor(rng, width, signed, shape) for shape in ((3, 5), (2, 1, 3, 1), (17,))]
    data, breakdown = pack(tensors)
    same(tensors, unpack(data))
    assert sum(breakdown.values()) == 8 * len(data)
    assert data[HEADER.size + TENSOR.size + 8] == width
    assert breakdown["weights"] == sum(8 * -(-t.constant.array.size * width // 8) for t in tensors)


@given(
    st.lists(
        st.tuples(st.sampled_from(ROLES), st.integers(1, 64), st.booleans(), st.lists(st.integers(0, 4), max_size=4)),
        max_size=6,
    ),
    st.integers(0, 99),
)
@settings(max_examples=100)
def test_any_list_of_raw_tensors(specs, seed):
    rng = np.random.default_rng(seed)
    tensors = [raw_tensor(rng, width, signed, tuple(shape), role) for role, width, signed, shape in specs]
    data, breakdown = pack(tensors)
    same(tensors, unpack(data))
    assert sum(breakdown.values()) == 8 * len(data)
    assert pack(unpack(data)) == (data, breakdown)


@pytest.mark.parametrize("shift", range(64))
def test_common_zeros_are_not_stored(shift):
    values = np.array([1, -1, 0] if shift < 63 else [-1, 0, 0]) << shift
    tensors = [
        Tensor("biases", Constant(values)),
        Tensor("tables", Constant(np.array([1 << shift], dtype=object if shift == 63 else None))),
    ]
    data, breakdown = pack(tensors)
    same(tensors, unpack(data))
    assert breakdown["biases"] == breakdown["tables"] == 8


def test_longer_than_a_chunk():
    rng = np.random.default_rng(1)
    for width in (3, 8, 11):
        tensors = [Tensor("tables", Constant(rng.integers(0, 1 << width, CHUNK + 13)))]
        same(tensors, unpack(pack(tensors)[0]))


def test_nothing_at_all():
    data, breakdown = pack([])
    assert unpack(data) == []
    assert breakdown == {"header": 8 * len(data)}
    assert len(data) == 20


# Coded tensors.


@pytest.mark.parametrize("seed", range(6))
def test_random_kernels(seed):
    rng = np.random.default_rng(seed)
    tensors = [random_tensor(rng, 10 * seed + i) for i in range(10)]
    tensors.insert(seed, raw_tensor(rng, 7, True, (3, 4), "biases"))
    data, breakdown = pack(tensors)
    same(tensors, unpack(data))
    assert sum(breakdown.values()) == 8 * len(data)
    assert pack(unpack(data)) == (data, breakdown)


METHODS = [
    Method("run", 0, 5),
    Method("run", 6, 1),
    Method("run", 170, 3),
    Method("csr", 0, 1),
    Method("csr", 0, 8),
    Method("run", 5, 2, 1),
]


@pytest.mark.parametrize("method", METHODS, ids=str)
@given(
    st.integers(1, 12), st.integers(1, 5), st.integers(1, 40), st.sampled_from([0.05, 0.3, 1]),
    st.sampled_from([0.8, 10, 3000]), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25)
def test_every_method_on_any_levels(method, taps, channels, outputs, density, scale, seed):
    levels = random_levels(np.random.default_rng(seed), (taps, channels, outputs), density, scale)
    levels[0, 0, 0] = 1
    with pytest.MonkeyPatch.context() as patch:
        force(patch, method)
        data, breakdown = pack([packed(levels)])
    same([packed(levels)], unpack(data))
    assert sum(breakdown.values()) == 8 * len(data)
    (found,) = describe(data)
    assert Method(found.coder, found.longest, found.direct, found.filler) == method
    assert ("indices" in breakdown) == (method.coder == "csr" and taps * channels > 1)


def test_special_levels():
    largest = (1 << 17) - 1
    for levels in (
        np.zeros((1, 1, 1)), np.zeros((9, 100, 64)), np.ones((3, 3, 3)), np.full((2, 2, 2), -largest),
        np.arange(-4000, 4001).reshape(1, 1, -1),
        np.eye(200).reshape(1, 200, 200), np.array([largest, 0, -largest, 1]).reshape(4, 1, 1),
    ):  # fmt: skip
        tensors = [packed(levels.astype(np.int64))]
        same(tensors, unpack(pack(tensors)[0]))


def test_substreams_follow_the_size():
    rng = np.random.default_rng(2)
    for outputs, size in ((1, 40_000), (3, 40_000), (64, 9 * 64), (300, 2000)):
        levels = random_levels(rng, (1, size, outputs), 0.5, 3)
        data, breakdown = pack([packed(levels)])
        (found,) = describe(data)
        kibibytes = (found.code_bits + found.raw_bits) / 8192
        assert found.substreams == min(max(round(kibibytes / 2), 1), 64, outputs)
        padding = breakdown["payload"] - found.code_bits - found.raw_bits
        assert breakdown["pointers"] + padding <= 0.01 * breakdown["payload"]
        same([packed(levels)], unpack(data))


def test_statistics_add_up():
    rng = np.random.default_rng(4)
    tensors = [random_tensor(rng, i) for i in range(8)]
    data, breakdown = pack(tensors)
    found = describe(data)
    assert [one.number for one in found] == list(range(8))
    for part in ("payload", "pointers", "centres", "cluster_indices"):
        assert sum(one.parts[part] for one in found) == breakdown.get(part, 0)
    for one, tensor in zip(found, tensors, strict=True):
        levels = tensor.constant.coding.levels.array
        assert one.levels == levels.size
        assert one.nonzeros == np.count_nonzero(levels)
        sections = one.parts["payload"] + one.parts["indices"] + one.parts["pointers"] - 64 * one.substreams
        assert 0 <= sections - one.code_bits - one.raw_bits < 16 * one.substreams
        assert one.code_bits + one.raw_bits >= one.entropy - 1e-6
        assert one.mean_code_length * one.symbols == pytest.approx(one.code_bits + one.raw_bits)


def test_kernels_of_one_kind_share_a_dictionary():
    rng = np.random.default_rng(6)
    alike = [packed(random_levels(rng, (9, 8, 8), 0.3, 2)) for _ in range(6)]
    other = [packed(random_levels(rng, (1, 400, 50), 1, 40))]
    data, breakdown = pack(alike + other)
    found = describe(data)
    assert len({one.dictionary for one in found[:6]}) == 1
    assert found[6].dictionary != found[0].dictionary
    apart = sum(pack([one])[1]["dictionaries"] + pack([one])[1]["payload"] for one in alike)
    assert breakdown["dictionaries"] + breakdown["payload"] - found[6].parts["payload"] < apart
    same(alike + other, unpack(data))


def test_what_cannot_be_stored():
    for values in (np.array([0.5]), np.array([2**64], dtype=object), np.array([-(2**63) - 1], dtype=object)):
        with pytest.raises(PassError):
            pack([Tensor("weights", Constant(values))])
    centres = Clusters(Constant(np.array([[1 << 17]])), Constant(np.zeros((1, 1), int)))
    too_many = Clusters(Constant(np.zeros((1 << 16, 1), int)), Constant(np.zeros((1, 1), int)))
    one = np.ones((1, 1, 1), int)
    for tensor in (
        packed(one << 17), packed(-one << 17), packed(one[:, :, :0]), packed(one, Transform(), (0,), centres),
        packed(one, Transform(), (0,), too_many), packed(one, shape=(1,) * 17),
    ):  # fmt: skip
        with pytest.raises(PassError):
            pack([tensor])


# Damage.


def small():
    rng = np.random.default_rng(8)
    clusters = Clusters(Constant(rng.integers(-9, 9, (3, 4))), Constant(rng.integers(0, 3, (2, 5))))
    coding = Transform("taps", 2, 2), (0, 1, 0, 2), clusters, 2
    return [
        packed(random_levels(rng, (4, 2, 5), 0.4, 3), *coding, shape=(2, 2, 2, 5)),
        Tensor("weights", Constant(np.arange(-5, 7).reshape(3, 4))),
        Tensor("biases", Constant(np.array([1000, -3]))),
        Tensor("tables", Constant(np.array(3))),
    ]


def test_every_flipped_byte_and_every_truncation_is_refused():
    data, _ = pack(small())
    for at in range(len(data)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            with pytest.raises(ModelError):
                unpack(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
    for end in range(len(data)):
        with pytest.raises(ModelError):
            unpack(data[:end])
        with pytest.raises(ModelError):
            unpack(sealed(data[: min(max(end, 16), len(data) - 5)]))
    for more in (b"\0", b"\xff" * 5, data):
        with pytest.raises(ModelError):
            unpack(data + more)
        with pytest.raises(ModelError):
            unpack(sealed(data[:-4] + more))


def test_behind_a_right_checksum_a_flip_is_refused_or_means_something():
    """What is accepted is a container of its own: it can be packed again."""
    body = pack(small())[0][:-4]
    accepted = 0
    for at in range(16, len(body)):
        for bit in range(8):
            changed = sealed(body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :])
            try:
                tensors = unpack(changed)
            except ModelError:
                continue
            accepted += 1
            if bit == at % 8:
                same(tensors, unpack(pack(tensors)[0]))
    assert accepted > 50


BOOK = DICTIONARY.pack(0, 0, 0, 1) + b"\x01"


def forged(*tensors, books=(BOOK,), count=None):
    head = HEADER.pack(b"DCTW", 2, len(books), len(tensors) if count is None else count, 0)
    return head + b"".join(books) + b"".join(tensors)


def raw(role, width, signed, shift, *sizes):
    return (
        TENSOR.pack(role, 0, len(sizes)) + struct.pack(f"<{len(sizes)}I", *sizes) + RAW_FORM.pack(width, signed, shift)
    )


def coded(*, kind=1, sizes=(8,), levels=(1, 8, 1), transform=(0, 1, 1), rounded=0, shifts=b"\0", centres=0, width=0,
          book=16, sections=((1, 0),), substreams=None, payload=b"\0"):  # fmt: skip
    return b"".join([
        TENSOR.pack(0, kind, len(sizes)), struct.pack(f"<{len(sizes)}I", *sizes),
        CODED_FORM.pack(*levels, *transform, rounded), shifts,
        CODED_TAIL.pack(centres, width, book, len(sections) if substreams is None else substreams),
        *(struct.pack("<II", *s) for s in sections), payload,
    ])  # fmt: skip


MANY = 2**32 - 1
FORGED = {
    "many tensors": forged(count=MANY),
    "many empty tensors": forged(raw(0, 8, 0, 0) * 3, count=10**6),
    "huge": forged(raw(0, 8, 0, 0, MANY)),
    "huge product": forged(raw(0, 64, 1, 0, MANY, MANY, MANY, MANY)),
    "product that wraps": forged(raw(0, 1, 0, 0, 2**16, 2**16, 2**16, 2**16)),
    "rank 255": forged(raw(0, 8, 0, 0, *[1] * 255) + b"\0"),
    "rank 255 without sizes": forged(TENSOR.pack(0, 0, 255)),
    "empty but huge": forged(raw(0, 8, 0, 0, MANY, MANY, 0)),
    "width 0": forged(raw(0, 0, 0, 0, 5)),
    "width 65": forged(raw(0, 65, 0, 0, 1) + b"\0" * 9),
    "shifted too far": forged(raw(0, 8, 0, 57, 1) + b"\0"),
    "signed 2": forged(raw(0, 8, 2, 0, 1) + b"\0"),
    "role": forged(raw(9, 8, 0, 0, 1) + b"\0"),
    "kind": forged(coded(kind=3)),
    "left over": forged(raw(0, 8, 0, 0, 1) + b"\0\0"),
    "too short": forged(raw(0, 8, 0, 0, 2) + b"\0"),
    "no dictionary": forged(coded(), books=()),
    "dictionary of another place": forged(coded(book=17)),
    "many dictionaries": HEADER.pack(b"DCTW", 2, 65535, 0, 0) + BOOK,
    "filler 2": forged(coded(), books=(DICTIONARY.pack(0, 2, 2, 3) + b"\x01\x00",)),
    "filler without its class": forged(coded(), books=(DICTIONARY.pack(0, 1, 0, 1) + b"\x01",)),
    "ones in csr": forged(coded(kind=2), books=(DICTIONARY.pack(0, 1, 1, 2) + b"\x11",)),
    "alphabet": forged(coded(), books=(DICTIONARY.pack(255, 0, 15, 17) + b"\x01",)),
    "classes": forged(coded(), books=(DICTIONARY.pack(0, 0, 1, 1) + b"\x01",)),
    "more classes than mantissas": forged(coded(), books=(DICTIONARY.pack(0, 0, 0, 19) + b"\xf1\x00",)),
    "incomplete code": forged(coded(), books=(DICTIONARY.pack(0, 0, 1, 2) + b"\x21",)),
    "oversubscribed code": forged(coded(), books=(DICTIONARY.pack(1, 0, 1, 2) + b"\x11\x11",)),
    "levels without bytes": forged(coded(sizes=(2**28,), levels=(1, 2**28, 1))),
    "too many levels": forged(coded(sizes=(2**29,), levels=(1, 2**29, 1), sections=((1 << 20, 0),))),
    "levels of nothing": forged(coded(sizes=(0,), levels=(1, 8, 0))),
    "sizes that do not fit": forged(coded(sizes=(7,))),
    "transform": forged(coded(transform=(3, 1, 1))),
    "no rows": forged(coded(transform=(1, 0, 1), shifts=b"")),
    "12 rows": forged(coded(transform=(2, 12, 1), sizes=(12,), levels=(1, 12, 1), shifts=b"\0" * 12)),
    "taps of another number": forged(coded(transform=(1, 2, 1), shifts=b"\0\0")),
    "channels that do not divide": forged(coded(transform=(2, 3, 1), shifts=b"\0\0\0")),
    "shift": forged(coded(shifts=b"\x21")),
    "rounded": forged(coded(rounded=33)),
    "centres of width 0": forged(coded(centres=1)),
    "centres of width 19": forged(coded(centres=1, width=19, payload=b"\0\0\0\0")),
    "width without centres": forged(coded(width=1)),
    "huge centre": forged(coded(centres=1, width=18, payload=b"\0\0\x02\0")),
    "padding of centres": forged(coded(centres=1, width=7, payload=b"\x80\0")),
    "index": forged(coded(centres=3, width=8, payload=b"\0\0\0\xff\0\0")),
    "padding of indices": forged(coded(sizes=(1,), levels=(1, 1, 1), centres=2, width=8, payload=b"\0\0\x02\0")),
    "no substream": forged(coded(sections=(), payload=b"")),
    "65 substreams": forged(coded(sizes=(65,), levels=(1, 1, 65), sections=((1, 0),) * 65, payload=b"\0" * 65)),
    "more substreams than outputs": forged(coded(sections=((1, 0),) * 2, payload=b"\0\0")),
    "substreams without lengths": forged(coded(substreams=64, levels=(1, 1, 64), sizes=(64,))),
    "section beyond the end": forged(coded(sections=((1, MANY),))),
    "padding of codes": forged(coded(sizes=(7,), levels=(1, 7, 1), payload=b"\x01")),
    "no code": forged(coded(payload=b"\x10")),
    "codes left over": forged(coded(sections=((2, 0),), payload=b"\0\0")),
    "too few codes": forged(coded(sizes=(9,), levels=(1, 9, 1))),
    "raw bits of nothing": forged(coded(sections=((1, 1),), payload=b"\0\0")),
    "runs in csr": forged(coded(kind=2), books=(DICTIONARY.pack(1, 0, 0, 1) + b"\x11",)),
    "zero in csr": forged(coded(kind=2, sections=((1, 1),), payload=b"\0\1")),
    "version": HEADER.pack(b"DCTW", 1, 0, 0, 0), "magic": HEADER.pack(b"DCTX", 2, 0, 0, 0),
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


def test_what_the_forgers_start_from_is_accepted():
    (tensor,) = unpack(sealed(forged(coded())))
    assert tensor.constant.array.tolist() == [0] * 8
    assert len(unpack(sealed(forged(raw(1, 8, 0, 56, 1) + b"\0")))) == 1


def test_nonzero_padding_is_a_second_spelling():
    """One tensor has one spelling: stray bits behind the last element are refused."""
    data, _ = pack([Tensor("weights", Constant(np.array([1, 2, 3])))])
    body = bytearray(data[:-4])
    body[-1] |= 0x80
    with pytest.raises(ModelError):
        unpack(sealed(bytes(body)))


def test_large_kernels_in_bounded_memory():
    levels = random_levels(np.random.default_rng(1), (1, 2000, 700), 0.2, 2)
    data, _ = pack([packed(levels)])
    tracemalloc.start()
    tensors = unpack(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    same([packed(levels)], tensors)
    assert peak < 5 * levels.nbytes  # levels and weights, each once more while it is made


def test_elements_of_no_bits():
    assert pack_elements(np.zeros(9, np.int64), 0) == b""
    assert container.VERSION == 2
