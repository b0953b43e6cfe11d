// Fills the memories of the sparse units out of a container, through the decoder of decoder.h.
//
// The decoder gives the nonzeros of a layer output after output, which is the order in which the
// unit's lanes are filled: no scheduler is needed. Nothing here is in a hurry, but the decoder's
// loops run at one symbol a cycle and `store_levels` takes an entry a cycle.
#ifndef DCT_WEIGHT_LOADER_H
#define DCT_WEIGHT_LOADER_H

#include "decoder.h"
#include "sparse_matrix_vector.h"

namespace dct {
namespace packed {

// Codes of a load beyond those of the decoder.
const int ERROR_FOREIGN = 16;     // the weights of another network, or other constants
const int ERROR_CAPACITY = 17;    // more nonzeros than the schedule of a layer holds
const int ERROR_LEVEL = 18;       // a level that is wider than the weights of the hardware
const int ERROR_NO_WEIGHTS = 19;  // a frame before the first load

// What the hardware was built for. `layer` is the unit that the tensor is for; constants without
// one (-1) are part of the hardware, and have to be the same.
struct expectation {
    int layer;
    unsigned role, coded, elements, checksum;
    unsigned taps, channels, outputs, transform, rows, columns;
    unsigned shifts;  // where those of the frequencies begin in their table
};

inline long long raw_element(const word32* words, const tensor& t, unsigned index) {
    unsigned long long value = element(words, t.payload_at, index, t.width);
    if (t.is_signed && t.width < 64 && value >> (t.width - 1)) value |= ~0ULL << t.width;
    return static_cast<long long>(value << t.shift);
}

// CRC-32 of the elements as 64-bit integers.
inline unsigned checksum(const word32* words, const tensor& t) {
    unsigned crc = 0xFFFFFFFFu;
elements:
    for (unsigned i = 0; i < t.elements; ++i) {
        const unsigned long long value = raw_element(words, t, i);
    steps:
        for (int bit = 0; bit < 64; ++bit) {
            crc ^= value >> bit & 1;
            crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
        }
    }
    return ~crc;
}

template <int N>
bool is_expected(const word32* words, const tensor& t, const expectation& e,
                 const unsigned char (&shifts)[N]) {
    if (t.role != e.role || (t.kind != RAW) != (e.coded != 0) || t.elements != e.elements)
        return false;
    if (!e.coded) return e.layer >= 0 || checksum(words, t) == e.checksum;
    if (t.taps != e.taps || t.channels != e.channels || t.outputs != e.outputs ||
        t.transform != e.transform || t.rows != e.rows || t.columns != e.columns ||
        t.centres != 0 || t.rounded != 0)
        return false;
    bool same = true;
frequencies:
    for (unsigned i = 0; i < t.rows * t.columns; ++i)
        if (byte_at(words, t.shifts_at + i) != shifts[e.shifts + i]) same = false;
    return same;
}

// Every tensor against what the hardware was built for.
template <int N, int M>
int check_structure(const word32* words, const container& c, const expectation (&expected)[N],
                    const unsigned char (&shifts)[M]) {
    if (c.tensors != unsigned(N)) return ERROR_FOREIGN;
    cursor place = first_tensor(c);
    tensor t;
    int result = OK;
tensors:
    for (int i = 0; i < N; ++i) {
        next_tensor(words, c, place, t);
        if (!is_expected(words, t, expected[i], shifts)) result = ERROR_FOREIGN;
    }
    return result;
}

// `decode_tensor` as a process. The ends of all substreams come whatever happens: who reads the
// levels waits for them.
template <int SYMBOLS>
inline void decode_process(const word32* code_words, const word32* raw_words, const container& c,
                           const tensor& t, code_table<SYMBOLS>& table, hls::stream<placed>& out,
                           int& result) {
    const status decoded = decode_tensor(code_words, raw_words, c, t, table, out);
    if (decoded != OK && decoded != ERROR_PAYLOAD) {  // before the first substream
    ends:
        for (unsigned s = 0; s < t.substreams; ++s) {
            const placed end = {0, 0, 0, true};
            out.write(end);
        }
    }
    result = decoded;
}

// The unit's schedule and the table of its partial sums, as sparse_matrix_vector.h has them: entry
// i goes to lane i / STEPS at step i % STEPS, and an output without nonzeros has one of weight 0.
// Without `writes` only checks.
//
// CHANNELS of a group, TAPS, GROUPS and BLOCK say where the element of a column lies in the vector
// of a pixel: BLOCK channels of every tap before the next block.
template <class C>
inline void store_levels(
    hls::stream<placed>& in, unsigned substreams, bool writes,
    ap_uint<dct::detail::schedule_entry<C>::WIDTH> (&schedule)[C::STEPS][C::MACS],
    unsigned char (&partials)[C::PARTIALS], int& result) {
    const int WEIGHT_AT = C::SELECT_BITS + C::ADDRESS_BITS;
    const int WEIGHT_BITS = bits<typename C::weight_t>::value;
    const unsigned char IDLE = 4;
    if (writes) {
    clear_schedule:
        for (int step = 0; step < C::STEPS; ++step) {
            DCT_HLS(pipeline II = 1)
        clear_lanes:
            for (int lane = 0; lane < C::MACS; ++lane) {
                DCT_HLS(unroll)
                schedule[step][lane] = 0;
            }
        }
    clear_partials:
        for (int partial = 0; partial < C::PARTIALS; ++partial) {
            DCT_HLS(pipeline II = 1)
            partials[partial] = IDLE;
        }
    }
    int lane = 0, step = 0, partial = 0, output = 0, status = OK;
    unsigned ends = 0;
    bool waiting = false, holds = false, is_done = false;
    unsigned long long held = 0;  // the output's last entry so far
    placed next = {0, 0, 0, false};
entries:
    while (!is_done) {
        DCT_HLS(pipeline)
        if (!waiting) {
            next = in.read();
            if (next.last) ++ends;
        }
        const bool skips = next.last && ends < substreams;
        const int target = next.last ? C::OUTPUTS : next.output.to_int();
        const bool ends_output = !skips && output < target;
        if (ends_output || (!skips && holds && !next.last)) {
            const bool cut = step == C::STEPS - 1, ends_all = output == C::OUTPUTS - 1;
            const bool ends_sum = ends_output || cut;
            if (lane == C::MACS) {
                status = ERROR_CAPACITY;
            } else {
                const unsigned long long flag = ends_sum;
                if (writes)
                    schedule[step][lane] = (holds ? held : 0) | flag << (WEIGHT_AT + WEIGHT_BITS);
                if (ends_sum) {
                    const bool ends_lane = cut || (ends_output && ends_all);
                    if (writes) partials[partial] = ends_output | ends_lane << 1;
                    ++partial;
                }
                step = cut ? 0 : step + 1;
                lane += cut;
            }
        }
        waiting = ends_output;
        if (ends_output) {
            ++output;
            holds = false;
        } else if (!skips && !next.last) {
            const int column = next.column.to_int();
            const int group = output / (C::OUTPUTS / C::GROUPS);
            const int channel = group * C::CHANNELS + column % C::CHANNELS;
            const int position = (channel / C::BLOCK * C::TAPS + column / C::CHANNELS) * C::BLOCK +
                                 channel % C::BLOCK;
            const typename C::weight_t weight = next.level;
            if (weight != next.level) status = ERROR_LEVEL;
            const unsigned long long raw = weight.to_uint64() & (~0ULL >> (64 - WEIGHT_BITS));
            held = raw << WEIGHT_AT |
                   static_cast<unsigned long long>(position / C::SIMD) << C::SELECT_BITS |
                   static_cast<unsigned long long>(position % C::SIMD);
            holds = true;
        }
        is_done = next.last && ends >= substreams && output >= C::OUTPUTS;
    }
    result = status;
}

template <class C>
inline void store_bias(const word32* words, const tensor& t,
                       typename C::output_t (&bias)[C::OUTPUTS]) {
outputs:
    for (int output = 0; output < C::OUTPUTS; ++output)
        bias[output] = raw_element(words, t, output);
}

}  // namespace packed
}  // namespace dct

#endif
