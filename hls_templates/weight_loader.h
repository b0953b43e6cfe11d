// Fills the memories of the sparse units out of a container, through the decoder of decoder.h, and
// tells the units whose weights are streamed where theirs lie.
//
// The decoder gives the nonzeros of a layer output after output, which is the order in which the
// unit's lanes are filled: no scheduler is needed. Nothing here is in a hurry, but the decoder's
// loops run at one symbol a cycle and `store_levels` takes an entry a cycle.
#ifndef DCT_WEIGHT_LOADER_H
#define DCT_WEIGHT_LOADER_H

#include "decoder.h"
#include "sparse_matrix_vector.h"
#include "streamed_matrix_vector.h"

namespace dct {
namespace packed {

// Codes of a load beyond those of the decoder.
const int ERROR_FOREIGN = 16;     // the weights of another network, or other constants
const int ERROR_CAPACITY = 17;    // more nonzeros than the schedule of a layer holds
const int ERROR_LEVEL = 18;       // a level that is wider than the weights of the hardware
const int ERROR_NO_WEIGHTS = 19;  // a frame before the first load

// What the hardware was built for. `layer` is the unit that the tensor is for; constants without
// one (-1) are part of the hardware, and have to be the same: those that are coded have the
// checksum of `identify_levels`.
struct expectation {
    int layer;
    unsigned role, coded, elements, checksum;
    unsigned taps, channels, outputs, transform, rows, columns;
    unsigned rounded, centres, centre_checksum;
    unsigned shifts;  // where those of the frequencies begin in their table
};

inline long long raw_element(const word32* words, const tensor& t, unsigned index) {
    unsigned long long value = element(words, t.payload_at, index, t.width);
    if (t.is_signed && t.width < 64 && value >> (t.width - 1)) value |= ~0ULL << t.width;
    return static_cast<long long>(value << t.shift);
}

// CRC-32, before its last inversion, of 8 bytes more, the lowest first.
inline unsigned crc_of(unsigned crc, unsigned long long value) {
steps:
    for (int bit = 0; bit < 64; ++bit) {
        crc ^= value >> bit & 1;
        crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return crc;
}

// CRC-32 of the elements as 64-bit integers.
inline unsigned checksum(const word32* words, const tensor& t) {
    unsigned crc = 0xFFFFFFFFu;
elements:
    for (unsigned i = 0; i < t.elements; ++i)
        crc = crc_of(crc, static_cast<unsigned long long>(raw_element(words, t, i)));
    return ~crc;
}

// Are the common centres, and which block has which, those of the hardware?
inline bool has_centres(const word32* words, const tensor& t, const expectation& e) {
    if (t.centres != e.centres) return false;
    if (t.centres == 0) return true;
    unsigned crc = 0xFFFFFFFFu;
    const unsigned size = t.rows * t.columns;
centres:
    for (unsigned i = 0; i < t.centres * size; ++i) {
        unsigned long long value = element(words, t.payload_at, i, t.centre_width);
        if (value >> (t.centre_width - 1)) value |= ~0ULL << t.centre_width;
        crc = crc_of(crc, value);
    }
    const unsigned indices = t.index_width > 0 ? t.elements / size : 0;
indices:
    for (unsigned i = 0; i < indices; ++i)
        crc = crc_of(crc, element(words, t.payload_at + t.centre_bytes, i, t.index_width));
    return ~crc == e.centre_checksum;
}

template <int N>
bool is_expected(const word32* words, const tensor& t, const expectation& e,
                 const unsigned char (&shifts)[N]) {
    if (t.role != e.role || (t.kind != RAW) != (e.coded != 0) || t.elements != e.elements)
        return false;
    if (!e.coded) return e.layer >= 0 || checksum(words, t) == e.checksum;
    if (t.taps != e.taps || t.channels != e.channels || t.outputs != e.outputs ||
        t.transform != e.transform || t.rows != e.rows || t.columns != e.columns ||
        t.rounded != e.rounded || !has_centres(words, t, e))
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

// The nonzeros of weights that are part of the hardware: are they those that it has? CRC-32 of each
// one's place in the order of coding and its 18 bits.
inline void identify_levels(hls::stream<placed>& in, unsigned substreams, unsigned columns,
                            unsigned expected, int& result) {
    unsigned crc = 0xFFFFFFFFu, ends = 0;
levels:
    while (ends < substreams) {
        const placed next = in.read();
        const unsigned long long place =
            next.output.to_uint64() * columns + next.column.to_uint64();
        if (next.last)
            ++ends;
        else
            crc = crc_of(crc, place << 18 | (next.level.to_uint64() & 0x3FFFF));
    }
    result = ~crc == expected ? OK : ERROR_FOREIGN;
}

// The nonzeros of weights that are streamed: does each fit the unit?
template <class C>
inline void check_levels(hls::stream<placed>& in, unsigned substreams, int& result) {
    int status = OK;
    unsigned ends = 0;
levels:
    while (ends < substreams) {
        DCT_HLS(pipeline II = 1)
        const placed next = in.read();
        const typename C::weight_t weight = next.level;
        if (next.last)
            ++ends;
        else if (weight != next.level)
            status = ERROR_LEVEL;
    }
    result = status;
}

// Tells the lanes of a unit where their weights lie, or, without `writes`, whether it can take
// them: each lane has as many substreams, and its table room for the symbols.
template <int SYMBOLS, int LANES>
inline int store_streams(const word32* words, const container& c, const tensor& t, bool writes,
                         streamed<SYMBOLS> (&place)[LANES]) {
    dictionary found;
    unsigned at = t.dictionary_at, symbols = 0;
    const status read = read_dictionary(words, at, c.descriptors, found);
    if (read != OK) return read;
lengths:
    for (unsigned length = 1; length <= LONGEST_CODE; ++length) symbols += found.counts[length];
    if (t.substreams % LANES != 0 || t.substreams > unsigned(MOST_SUBSTREAMS) ||
        symbols > unsigned(SYMBOLS))
        return ERROR_CAPACITY;
    if (!writes) return OK;
    unsigned codes_at = t.payload_at + t.centre_bytes + t.index_bytes, s = 0;
lanes:
    for (int lane = 0; lane < LANES; ++lane) {
        build_codes(words, t.dictionary_at, c.descriptors, place[lane].table);
        place[lane].kind = t.kind;
        place[lane].count = t.substreams / LANES;
        place[lane].failed = false;
    substreams:
        for (unsigned part = 0; part < t.substreams / LANES; ++part) {
            const unsigned code_bytes = get32(words, t.sections_at + 8 * s);
            const unsigned raw_bytes = get32(words, t.sections_at + 8 * s + 4);
            const substream one = {t.first(s), t.first(s + 1) - t.first(s), codes_at, code_bytes,
                                   raw_bytes};
            place[lane].parts[part] = one;
            codes_at += code_bytes + raw_bytes;
            ++s;
        }
    }
    return OK;
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
