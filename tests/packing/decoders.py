"""Runs the C decoder and the HLS decoder on many containers in one call.

Both programs read containers (length u32, bytes) from standard input and write, for each, int32s: the status of opening
it, and where that is 0 the number of tensors, and for each of them its kind and

- raw: elements, then each as two halves, the low one first;
- coded: status, number of levels, the levels (outputs, columns), and (C only) status and the spatial weights.
"""

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.hls_templates.harness import TEMPLATES

C_TEMPLATES = Path(__file__).parents[2] / "c_templates"
C_FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wcast-qual", "-pedantic"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
TENSOR_DAMAGE = 6

C_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights.h"

static void put(int32_t value) { fwrite(&value, 4, 1, stdout); }

static void report(const uint8_t *data, size_t size) {
    static dct_scratch scratch;
    dct_container container;
    dct_cursor cursor;
    dct_tensor tensor;
    const dct_status status = dct_open(&container, data, size);
    put((int32_t)status);
    if (status != DCT_OK) return;
    put((int32_t)container.tensors);
    dct_first(&container, &cursor);
    while (dct_next(&container, &cursor, &tensor) == DCT_OK) {
        put((int32_t)tensor.kind);
        if (tensor.kind == DCT_RAW) {
            put((int32_t)tensor.elements);
            for (uint32_t i = 0; i < tensor.elements; ++i) {
                int64_t value = 0;
                if (dct_raw_element(&container, &tensor, i, &value) != DCT_OK) abort();
                fwrite(&value, 8, 1, stdout);
            }
            continue;
        }
        int32_t *levels = malloc(4u * (size_t)tensor.elements);
        put((int32_t)dct_decode_levels(&container, &tensor, &scratch, levels, tensor.elements));
        put((int32_t)tensor.elements);
        fwrite(levels, 4, tensor.elements, stdout);
        if (dct_decode_levels(&container, &tensor, &scratch, levels, tensor.elements - 1u) !=
            DCT_ERROR_ARGUMENT) abort();
        put((int32_t)dct_decode_weights(&container, &tensor, &scratch, levels, tensor.elements));
        fwrite(levels, 4, tensor.elements, stdout);
        free(levels);
    }
}
"""

C_BATCH = r"""
int main(void) {
    uint32_t size;
    while (fread(&size, 4, 1, stdin) == 1) {
        uint8_t *data = malloc(size ? size : 1u);
        if (fread(data, 1, size, stdin) != size) abort();
        report(data, size);
        free(data);
    }
    return 0;
}
"""

HLS_PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "decoder.h"

using namespace dct::packed;

static void put(int value) { std::fwrite(&value, 4, 1, stdout); }

static void report(const word32* words, unsigned bytes) {
    static code_table<> table;
    container c;
    tensor t;
    const status opened = dct::packed::open(words, bytes, c);
    put(opened);
    if (opened != OK) return;
    put(c.tensors);
    cursor place = first_tensor(c);
    while (next_tensor(words, c, place, t) == OK) {
        put(t.kind);
        if (t.kind == RAW) {
            put(t.elements);
            for (unsigned i = 0; i < t.elements; ++i) {
                unsigned long long value = element(words, t.payload_at, i, t.width);
                if (t.is_signed && t.width < 64 && value >> (t.width - 1)) value |= ~0ull << t.width;
                value <<= t.shift;
                std::fwrite(&value, 8, 1, stdout);
            }
            continue;
        }
        hls::stream<placed> found;
        const status decoded = decode_tensor(words, words, c, t, table, found);
        std::vector<int> levels(t.elements);
        unsigned ends = 0;
        while (!found.empty()) {
            const placed level = found.read();
            if (level.last) ++ends;
            else levels.at(level.output.to_uint() * t.taps * t.channels + level.column.to_uint()) = level.level;
        }
        if (decoded == OK && ends != t.substreams) std::abort();
        put(decoded);
        put(t.elements);
        std::fwrite(levels.data(), 4, t.elements, stdout);
    }
}

int main() {
    unsigned size;
    while (std::fread(&size, 4, 1, stdin) == 1) {
        std::vector<unsigned char> data(size);
        if (std::fread(data.data(), 1, size, stdin) != size) std::abort();
        // Whole words, as the memory has them; what lies behind the container is not zero.
        std::vector<word32> words((size + 3) / 4, word32(0));
        for (unsigned i = 0; i < 4 * words.size(); ++i)
            words[i / 4] |= word32(i < size ? data[i] : 0xA5) << 8 * (i % 4);
        report(words.data(), size);
    }
}
"""


@dataclass
class Decoded:
    """What a program says of a container: (status, values) of its tensors, (status, spatial weights) of coded ones."""

    status: int
    tensors: list[tuple[int, np.ndarray]]
    weights: list[tuple[int, np.ndarray] | None]

    @property
    def accepted(self) -> bool:
        return self.status == 0 and all(status == 0 for status, _ in self.tensors)


def batch(containers) -> bytes:
    return b"".join(struct.pack("<I", len(data)) + data for data in containers)


def parse(output: bytes, count: int, has_weights: bool) -> list[Decoded]:
    """What a program wrote about `count` containers."""
    numbers, at, found = np.frombuffer(output, np.int32), 0, []
    for _ in range(count):
        decoded = Decoded(int(numbers[at]), [], [])
        tensors = int(numbers[at + 1]) if decoded.status == 0 else 0
        at += 1 + (decoded.status == 0)
        for _ in range(tensors):
            kind = numbers[at]
            if kind == 0:
                size = int(numbers[at + 1])
                values = np.frombuffer(numbers[at + 2 : at + 2 + 2 * size].tobytes(), np.int64)
                decoded.tensors.append((0, values))
                decoded.weights.append(None)
                at += 2 + 2 * size
                continue
            status, size = int(numbers[at + 1]), int(numbers[at + 2])
            at += 3
            decoded.tensors.append((status, numbers[at : at + size]))
            at += size
            if has_weights:
                decoded.weights.append((int(numbers[at]), numbers[at + 1 : at + 1 + size]))
                at += 1 + size
        found.append(decoded)
    assert at == len(numbers)
    return found


def run_program(program: Path, containers) -> bytes:
    done = subprocess.run([program], input=batch(containers), capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[:3000]
    return done.stdout


def build_c(folder: Path, main: str = C_BATCH, name: str = "c_decoder") -> Path:
    """The C decoder and a main program, under the sanitizers."""
    source, program = folder / f"{name}.c", folder / name
    source.write_text(C_PROGRAM + main)
    library = folder / f"{name}.weights.o"
    compiler = ["gcc", "-O1", *SANITIZERS, f"-I{C_TEMPLATES}"]
    for command in (
        [*compiler, *C_FLAGS, "-Werror", "-c", C_TEMPLATES / "weights.c", "-o", library],
        [*compiler, "-std=c99", source, library, "-o", program],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
    return program


def hls_flags() -> tuple[str, ...]:
    return "-Wall", "-Wextra", f"-I{TEMPLATES / 'sim'}", f"-I{TEMPLATES}"
