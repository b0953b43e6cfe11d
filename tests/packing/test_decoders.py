"""Python, C and HLS C++ read the same bytes, and refuse the same ones."""

import re
import shutil
import struct
import subprocess

import numpy as np
import pytest

from tests.cpp import compile_and_run
from tests.packing import fuzz_decoder
from tests.packing.codings import force, random_levels, random_tensor, sealed
from tests.packing.decoders import C_PROGRAM, C_TEMPLATES, HLS_PROGRAM, batch, build_c, hls_flags, parse, run_program
from toolchain.errors import ModelError
from toolchain.ir import Constant
from toolchain.packing.basis import LARGEST, Transform, basis
from toolchain.packing.choice import Method
from toolchain.packing.container import Tensor, describe, pack, unpack
from toolchain.packing.packed import Clusters, Coding, Packed

pytestmark = pytest.mark.csim

RANGE = 8


@pytest.fixture(scope="module")
def c_decoder(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, so the C decoder is not compared: apt-get install gcc")
    return build_c(tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="module")
def hls_decoder(tmp_path_factory):
    """Compiled once; `compile_and_run` leaves the program behind."""
    folder = tmp_path_factory.mktemp("hls")
    compile_and_run(HLS_PROGRAM, folder, flags=("-O1", "-fsanitize=address", *hls_flags()))
    return folder / "main"


def forced(tensors, method):
    with pytest.MonkeyPatch.context() as patch:
        force(patch, method)
        return pack(tensors)[0]


def containers():
    """Every transform, with and without clusters, of every density; coders, runs and direct magnitudes of all kinds."""
    rng = np.random.default_rng(11)
    lists = [[random_tensor(rng, i, clustered=i % 2 == 1)] for i in range(72)]
    for i in range(10):
        tables = rng.integers(-(2**40), 2**62, 6) >> int(rng.integers(0, 62)) << int(rng.integers(0, 2))
        lists.append([random_tensor(rng, 100 + 3 * i + k) for k in range(3)] + [Tensor("tables", Constant(tables))])
    largest = Constant(np.array([2**64 - 1, 1], dtype=object))
    lists += [[], [Tensor("parameters", largest), Tensor("biases", Constant(np.zeros((2, 0, 3), int)))]]
    data = [pack(tensors)[0] for tensors in lists]
    methods = [
        Method("csr", 0, 1),
        Method("csr", 0, 6),
        Method("run", 0, 3),
        Method("run", 170, 2),
        Method("run", 9, 6),
        Method("run", 40, 2, 1),
    ]
    for i in range(36):
        levels = random_levels(rng, (1, 1 + 7 * (i % 9), 40), (0.1, 0.5, 1)[i % 3], (0.8, 20)[i % 2])
        levels[0, 0, 0] = -1
        if methods[i % len(methods)].filler:
            levels += (rng.random(levels.shape) < 0.9) * (np.abs(levels) != 1) * (1 - levels)
            levels *= rng.choice([-1, 1], levels.shape)
        lists.append([Tensor("weights", Packed(Coding(Constant(levels)), levels.shape))])
        data.append(forced(lists[-1], methods[i % len(methods)]))
    for shape, density in (((9, 60, 150), 0.3), ((1, 500, 200), 1)):  # many substreams
        levels = random_levels(rng, shape, density, 4)
        lists.append([Tensor("weights", Packed(Coding(Constant(levels)), shape))])
        data.append(pack(lists[-1])[0])
        data.append(forced(lists[-1], Method("csr", 0, 4)))
        lists.append(lists[-1])
    return lists, data


@pytest.fixture(scope="module")
def made():
    return containers()


def check_tensor(tensor, decoded, spatial):
    status, values = decoded
    assert status == 0
    if not isinstance(tensor.constant, Packed):
        patterns = [int(v) % 2**64 for v in tensor.constant.array.ravel()]
        assert [int(v) % 2**64 for v in values] == patterns
        return
    coding = tensor.constant.coding
    assert np.array_equal(values, coding.levels.array.transpose(2, 0, 1).ravel())
    if spatial is None:
        return
    weights = coding.weights().transpose(2, 0, 1).ravel()
    if weights.min() >= -(2**31) and weights.max() < 2**31:
        assert spatial[0] == 0
        assert np.array_equal(spatial[1], weights)
    else:
        assert spatial[0] == RANGE


def test_the_containers_are_of_all_kinds(made):
    found = [one for data in made[1] for one in describe(data)]
    assert {one.coder for one in found} == {"run", "csr"}
    assert max(one.substreams for one in found if one.coder == "run") > 8
    assert max(one.substreams for one in found if one.coder == "csr") > 8
    assert {one.longest for one in found} >= {0, 9, 40, 170}
    assert {one.filler for one in found} == {0, 1}
    codings = [t.constant.coding for tensors in made[0] for t in tensors if isinstance(t.constant, Packed)]
    assert {(c.transform.kind, c.clusters is None, c.rounded > 0) for c in codings} >= {
        (kind, common, rounded)
        for kind in ("taps", "channels")
        for common in (True, False)
        for rounded in (True, False)
    }


def test_c_decodes_what_python_packs(c_decoder, made):
    lists, data = made
    for tensors, decoded in zip(lists, parse(run_program(c_decoder, data), len(data), True), strict=True):
        assert decoded.accepted
        for tensor, values, spatial in zip(tensors, decoded.tensors, decoded.weights, strict=True):
            check_tensor(tensor, values, spatial)


def test_hls_decodes_what_python_packs(hls_decoder, made):
    lists, data = made
    for tensors, decoded in zip(lists, parse(run_program(hls_decoder, data), len(data), False), strict=True):
        assert decoded.accepted
        for tensor, values in zip(tensors, decoded.tensors, strict=True):
            check_tensor(tensor, values, None)


def test_spatial_weights_at_the_limits(c_decoder):
    """The largest levels, centres and shifts of each basis: 64 bits hold all sums, and 32 bits are checked."""
    largest = (1 << 17) - 1
    tensors = []
    for size in (1, 2, 3, 5, 8, LARGEST):
        for rounded in (0, 32):
            for shift in (0, 32):
                transform = Transform("channels", size, LARGEST)
                block = np.sign(transform.matrix[:, size // 2])  # the sum of one weight is the largest there is
                levels = Constant(largest * block.reshape(1, -1, 1))
                clusters = Clusters(Constant(largest * block[None]), Constant(np.zeros((1, 1), int)))
                coding = Coding(levels, transform, (shift,) * transform.size, clusters, rounded)
                tensors.append(Tensor("weights", Packed(coding, (transform.size, 1))))
    (decoded,) = parse(run_program(c_decoder, [pack(tensors)[0]]), 1, True)
    for tensor, values, spatial in zip(tensors, decoded.tensors, decoded.weights, strict=True):
        check_tensor(tensor, values, spatial)
    assert {status for status, _ in decoded.weights} == {0, RANGE}


# Damage.


def small(method):
    rng = np.random.default_rng(8)
    clusters = Clusters(Constant(rng.integers(-9, 9, (3, 4))), Constant(rng.integers(0, 3, (2, 5))))
    levels = random_levels(rng, (4, 2, 5), 0.4, 3)
    coding = Coding(Constant(levels), Transform("taps", 2, 2), (0, 1, 0, 2), clusters, 2)
    tensors = [Tensor("weights", Packed(coding, (2, 2, 2, 5))), Tensor("biases", Constant(np.array([1000, -3])))]
    return forced(tensors, method) if method else pack(tensors)[0]


EVERY_BYTE = r"""
static uint32_t crc(const uint8_t *data, size_t size) {
    uint32_t value = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; ++i) {
        value ^= data[i];
        for (int k = 0; k < 8; ++k) value = value >> 1 ^ (0xEDB88320u & (0u - (value & 1u)));
    }
    return ~value;
}

static int opens(const uint8_t *data, size_t size) {
    dct_container container;
    uint8_t *copy = malloc(size ? size : 1u); /* as long as it is, so that the sanitizer sees its end */
    memcpy(copy, data, size);
    const int result = dct_open(&container, copy, size) == DCT_OK;
    free(copy);
    return result;
}

static void seal(uint8_t *data, uint32_t size) {
    memcpy(data + 12, &size, 4);
    const uint32_t sum = crc(data, size - 4);
    memcpy(data + size - 4, &sum, 4);
}

int main(void) {
    static uint8_t data[1 << 16], changed[1 << 16];
    uint32_t size;
    long accepted = 0, opened = 0;
    while (fread(&size, 4, 1, stdin) == 1) {
        if (fread(data, 1, size, stdin) != size) abort();
        if (!opens(data, size)) abort();
        for (uint32_t at = 0; at < size; ++at) {
            for (unsigned flip = 1; flip < 256; ++flip) {
                memcpy(changed, data, size);
                changed[at] ^= (uint8_t)flip;
                accepted += opens(changed, size);
                if (at < 16 || at >= size - 4) continue;
                seal(changed, size);
                uint8_t *copy = malloc(size);
                memcpy(copy, changed, size);
                report(copy, size);
                opened += opens(copy, size);
                free(copy);
            }
            accepted += opens(data, at);
            if (at >= 20 && at < size) {
                memcpy(changed, data, at);
                seal(changed, at);
                accepted += opens(changed, at);
            }
        }
    }
    fprintf(stderr, "%ld %ld\n", accepted, opened);
    return 0;
}
"""


def test_c_survives_every_changed_byte_and_every_truncation(tmp_path, c_decoder):
    """With the old checksum all are refused. With a right one the sanitizers find nothing."""
    program = build_c(tmp_path, EVERY_BYTE.replace("report(", "(void)freopen, report("), "every_byte")
    examples = [small(None), small(Method("csr", 0, 2)), small(Method("run", 4, 2, 1))]
    done = subprocess.run([program], input=batch(examples), capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    accepted, opened = map(int, done.stderr.split())
    assert accepted == 0
    assert opened > 1000


def mutants(count):
    """Containers with one or two wrong bytes, or cut, whose length and checksum are right."""
    rng = np.random.default_rng(5)
    levels = random_levels(rng, (1, 16, 40), 0.2, 500)
    wide = [Tensor("weights", Packed(Coding(Constant(levels)), (16, 40)))]
    csr = Method("csr", 0, 2)
    signs = rng.choice([-1, 1], (1, 16, 40)) * (rng.random((1, 16, 40)) < 0.9)
    ones = [Tensor("weights", Packed(Coding(Constant(signs)), (16, 40)))]
    made = small(None), small(csr), pack(wide)[0], forced(wide, csr), forced(ones, Method("run", 11, 1, 1))
    bodies = [data[:-4] for data in made]
    found = []
    for i in range(count):
        body = bytearray(bodies[i % len(bodies)])
        for _ in range(int(rng.integers(1, 3))):
            at = int(rng.integers(16 if rng.random() < 0.9 else 0, len(body)))
            body[at] ^= 1 << int(rng.integers(8)) if rng.random() < 0.5 else int(rng.integers(1, 256))
        found.append(sealed(bytes(body[: int(rng.integers(16, len(body)))] if rng.random() < 0.1 else body)))
    return found


def test_all_three_refuse_the_same_and_read_the_rest_alike(c_decoder, hls_decoder):
    data = mutants(2400)
    in_c = parse(run_program(c_decoder, data), len(data), True)
    in_hls = parse(run_program(hls_decoder, data), len(data), False)
    accepted = 0
    for one, c, hls in zip(data, in_c, in_hls, strict=True):
        assert c.status == hls.status
        assert [status for status, _ in c.tensors] == [status for status, _ in hls.tensors]
        try:
            tensors = unpack(one)
        except ModelError:
            assert not c.accepted
            continue
        assert c.accepted
        accepted += 1
        for tensor, values, spatial, value in zip(tensors, c.tensors, c.weights, hls.tensors, strict=True):
            check_tensor(tensor, values, spatial)
            check_tensor(tensor, value, None)
    assert 200 < accepted < 2000


def test_hls_refuses_every_changed_byte_and_truncation_of_a_small_container(hls_decoder):
    data = small(None)
    changed = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(len(data))]
    changed += [data[:end] for end in range(len(data))]
    assert all(one.status for one in parse(run_program(hls_decoder, changed), len(changed), False))


# The sources.


def test_c_has_the_bases_of_python():
    text = (C_TEMPLATES / "weights.c").read_text()
    numbers = {
        name: [
            int(n) for n in re.findall(r"-?\d+(?=U|\b)", re.search(rf"{name}\[[^=]*= \{{(.*?)\}};", text, re.DOTALL)[1])
        ]
        for name in ("BASES", "BASIS_AT")
    }
    expected, places = [], [0]
    for size in range(1, LARGEST + 1):
        places.append(len(expected))
        expected += basis(size).ravel().tolist()
    assert numbers["BASES"] == expected
    assert numbers["BASIS_AT"] == places


def test_c_needs_nothing():
    """No heap, no library but the compiler's own headers, no recursion that a reader of names would see."""
    text = (C_TEMPLATES / "weights.h").read_text() + (C_TEMPLATES / "weights.c").read_text()
    assert set(re.findall(r"#include (\S+)", text)) == {"<stddef.h>", "<stdint.h>", '"weights.h"'}
    for word in ("malloc", "free", "printf", "goto", "double", "float"):
        assert not re.search(rf"\b{word}\b", text)
    assert "malloc" in C_PROGRAM  # the test's own


def test_c_as_cplusplus(tmp_path, c_decoder):
    (tmp_path / "main.cpp").write_text('#include "weights.h"\nint main() { return sizeof(dct_scratch) > 12288; }\n')
    command = ["g++", "-Wall", "-Werror", f"-I{C_TEMPLATES}", tmp_path / "main.cpp", "-o", tmp_path / "main"]
    subprocess.run(command, check=True)
    subprocess.run([tmp_path / "main"], check=True)


def test_hls_has_the_limits_of_python():
    assert struct.unpack("<I", b"DCTW")[0] == 0x57544344


@pytest.mark.skipif(shutil.which("clang") is None, reason="clang not installed: make tools")
def test_libfuzzer_finds_nothing_in_a_moment(tmp_path):
    """The short form of `make fuzz-decoder`; the seeds alone reach both decoders."""
    done = fuzz_decoder.run(tmp_path, "-runs=60000")
    assert done.returncode == 0, done.stderr[-3000:]
