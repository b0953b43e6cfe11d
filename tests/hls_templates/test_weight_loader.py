"""The memories that `store_levels` fills stand for the matrix whose levels it was given, however lanes cut it."""

from dataclasses import dataclass

import numpy as np
import pytest

from tests.cpp import compile_and_run
from tests.hls_templates.harness import options, struct

pytestmark = pytest.mark.csim

OK, CAPACITY, LEVEL = 0, 17, 18


@dataclass(frozen=True)
class Layer:
    """`levels` (taps, channels of a group, outputs) in `substreams`, for lanes of `steps` entries."""

    levels: np.ndarray
    groups: int
    block: int
    simd: int
    macs: int
    steps: int
    substreams: int
    weight_bits: int = 8

    @property
    def config(self) -> dict[str, int | str]:
        taps, channels, outputs = self.levels.shape
        words = taps * channels * self.groups // self.simd
        return {
            "TAPS": taps,
            "CHANNELS": channels,
            "OUTPUTS": outputs,
            "GROUPS": self.groups,
            "BLOCK": self.block,
            "SIMD": self.simd,
            "MACS": self.macs,
            "STEPS": self.steps,
            "PARTIALS": outputs + self.macs - 1,
            "SELECT_BITS": (self.simd - 1).bit_length(),
            "ADDRESS_BITS": (words - 1).bit_length(),
            "weight_t": f"ap_int<{self.weight_bits}>",
        }

    @property
    def stream(self) -> list[int]:
        """What the decoder gives: output, column, level, end of a substream."""
        outputs = self.levels.shape[2]
        rows = self.levels.transpose(2, 0, 1).reshape(outputs, -1)
        found = []
        for s in range(self.substreams):
            for o in range(s * outputs // self.substreams, (s + 1) * outputs // self.substreams):
                found += [v for c in np.flatnonzero(rows[o]) for v in (o, int(c), int(rows[o, c]), 0)]
            found += [0, 0, 0, 1]
        return found

    @property
    def vectors(self) -> np.ndarray:
        """(outputs, position in the vector of a pixel): the matrix that the unit multiplies by."""
        taps, channels, outputs = self.levels.shape
        full = np.zeros((taps, channels * self.groups, outputs), dtype=np.int64)
        for o in range(outputs):
            group = o * self.groups // outputs
            full[:, group * channels : (group + 1) * channels, o] = self.levels[:, :, o]
        blocks = full.reshape(taps, -1, self.block, outputs).transpose(3, 1, 0, 2)
        return blocks.reshape(outputs, -1)

    def unit(self, schedule: np.ndarray, partials: np.ndarray) -> np.ndarray:
        """The matrix that the sparse unit makes of its memories: lanes to partial sums, these to outputs."""
        config, (_, _, outputs) = self.config, self.levels.shape
        select, address = int(config["SELECT_BITS"]), int(config["ADDRESS_BITS"])
        sums: list[list[np.ndarray]] = []
        for lane in range(self.macs):
            sums.append([])
            running = np.zeros(self.vectors.shape[1], dtype=np.int64)
            for entry in (int(e) for e in schedule[:, lane]):
                word = entry >> select & ((1 << address) - 1)
                weight = entry >> (select + address) & ((1 << self.weight_bits) - 1)
                weight -= (weight >> (self.weight_bits - 1)) << self.weight_bits
                running[word * self.simd + (entry & ((1 << select) - 1))] += weight
                if entry >> (select + address + self.weight_bits):
                    sums[-1].append(running)
                    running = np.zeros_like(running)
            assert not running.any()
        made = [np.zeros(self.vectors.shape[1], dtype=np.int64)]
        lane = at = 0
        for partial in (int(p) for p in partials):
            if partial & 4:
                continue
            made[-1] += sums[lane][at]
            at += 1
            if partial & 1:
                made.append(np.zeros_like(made[0]))
            if partial & 2:
                assert at == len(sums[lane])
                lane, at = lane + 1, 0
        assert not any(sums[lane:])
        assert len(made) == outputs + 1
        return np.array(made[:-1])


def layer(seed: int, shape, density, macs, groups=1, block=None, simd=1, room=1.125, substreams=1, empty=()) -> Layer:
    rng = np.random.default_rng(seed)
    levels = rng.integers(-128, 128, shape) * (rng.random(shape) < density)
    levels[:, :, list(empty)] = 0
    entries = int(np.maximum(np.count_nonzero(levels, axis=(0, 1)), 1).sum())
    return Layer(levels, groups, block or shape[1], simd, macs, int(-(-entries * room // macs)), substreams)


LAYERS = [
    layer(1, (9, 4, 6), 0.4, 1),
    layer(2, (9, 4, 6), 0.4, 7, simd=4, substreams=3),
    layer(3, (9, 4, 6), 0.2, 16, room=1.0, empty=(0, 3, 5)),
    layer(4, (4, 6, 8), 0.5, 5, groups=2, simd=3, substreams=8),
    layer(5, (9, 1, 6), 0.7, 4, groups=6, block=3, simd=3),  # depthwise
    layer(6, (9, 8, 4), 0.3, 8, block=2, simd=2),  # behind a basis stage over taps
    layer(7, (1, 12, 5), 0.0, 3),
    layer(8, (1, 12, 5), 1.0, 64),
    layer(9, (1, 40, 2), 0.9, 8, room=1.0, substreams=2),
]

PROGRAM = """
#include <cstdio>
#include <hls_stream.h>
#include "weight_loader.h"

using namespace dct::packed;

template <class C>
void run(const int* stream, int count, unsigned substreams, bool writes) {
    const int WIDTH = dct::detail::schedule_entry<C>::WIDTH;
    static ap_uint<WIDTH> schedule[C::STEPS][C::MACS];
    static unsigned char partials[C::PARTIALS];
    for (int step = 0; step < C::STEPS; ++step)
        for (int lane = 0; lane < C::MACS; ++lane) schedule[step][lane] = -1;
    hls::stream<placed> in;
    for (int i = 0; i < count; i += 4) {
        const placed next = {stream[i], stream[i + 1], stream[i + 2], stream[i + 3] != 0};
        in.write(next);
    }
    int result = -1;
    store_levels<C>(in, substreams, writes, schedule, partials, result);
    std::printf("%d %d ", result, int(in.empty()));
    for (int step = 0; step < C::STEPS; ++step)
        for (int lane = 0; lane < C::MACS; ++lane)
            std::printf("%llu ", (unsigned long long)schedule[step][lane].to_uint64());
    for (int partial = 0; partial < C::PARTIALS; ++partial) std::printf("%d ", partials[partial]);
    std::printf("\\n");
}
"""


def run_all(layers, folder, only_checked=()):
    """(status, whether the stream was read to its end, schedule, partials) of each layer."""
    parts, calls = [PROGRAM], []
    for number, one in enumerate((*layers, *only_checked)):
        writes = str(number < len(layers)).lower()
        values = one.stream
        parts.append(struct(f"C{number}", one.config))
        parts.append(f"static const int stream{number}[] = {{{', '.join(map(str, values))}}};")
        calls.append(f"run<C{number}>(stream{number}, {len(values)}, {one.substreams}, {writes});")
    source = "\n".join([*parts, "int main() {", *calls, "}"])
    output = compile_and_run(source, folder, flags=("-O0", *options()))
    for one, line in zip((*layers, *only_checked), output.decode().splitlines(), strict=True):
        status, is_empty, *numbers = (int(n) for n in line.split())
        cells = one.steps * one.macs
        schedule = np.array(numbers[:cells], dtype=object).reshape(one.steps, one.macs)
        yield status, bool(is_empty), schedule, np.array(numbers[cells:])


def test_memories_stand_for_the_matrix(tmp_path):
    small = Layer(LAYERS[1].levels, 1, 4, 4, 7, LAYERS[1].steps * 7 // 9, 3)
    narrow = Layer(LAYERS[0].levels, 1, 4, 1, 1, LAYERS[0].steps, 1, weight_bits=7)
    *found, full, wide = run_all(LAYERS, tmp_path, (small, narrow))
    for one, (status, is_empty, schedule, partials) in zip(LAYERS, found, strict=True):
        assert (status, is_empty) == (OK, True)
        assert np.array_equal(one.unit(schedule, partials), one.vectors)
    assert full[:2] == (CAPACITY, True)
    assert wide[:2] == (LEVEL, True)
    for _, _, schedule, partials in (full, wide):  # nothing was written
        assert len(set(schedule.ravel().tolist())) == 1
        assert not partials.any()
