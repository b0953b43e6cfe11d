// Matrix-vector unit for weights that do not fit the chip: they come out of the container in DDR,
// are decoded on the way and used at once, again for every GROUP_PIXELS pixels.
//
// Three activities follow each other: the vectors of a group are filled; LANES decoders bring the
// nonzeros of LANES equal parts of the outputs, each of which is multiplied by all pixels of the
// group at once; words are emitted. With large layers, which this is for, the second takes nearly
// all of the time.
#ifndef DCT_STREAMED_MATRIX_VECTOR_H
#define DCT_STREAMED_MATRIX_VECTOR_H

#include "decoder.h"
#include "loops.h"
#include "multiply.h"
#include "storage.h"
#include "word.h"

namespace dct {
namespace packed {

const int MOST_SUBSTREAMS = 64;

// A substream of a tensor: its outputs, and its two sections in the container.
struct substream {
    unsigned first, outputs, codes_at, code_bytes, raw_bytes;
};

// The weights of a lane: what its decoder has to know.
template <int SYMBOLS>
struct streamed {
    code_table<SYMBOLS> table;
    unsigned kind, count;
    substream parts[MOST_SUBSTREAMS];
    bool failed;  // something was wrong with the bytes since they were loaded
};

}  // namespace packed

namespace detail {

// Word of a vector, and the element in it, of a column tap * CHANNELS + channel of an output.
// Vectors have BLOCK channels of every tap before the next block. Comparisons find the tap, since
// CHANNELS may be no power of two.
template <class C>
void locate(unsigned output, unsigned column, unsigned& word, unsigned& select) {
    DCT_HLS(inline)
    unsigned tap = 0, channel = column;
taps:
    for (unsigned t = 1; t < unsigned(C::TAPS); ++t) {
        DCT_HLS(unroll)
        if (column >= t * C::CHANNELS) {
            tap = t;
            channel = column - t * C::CHANNELS;
        }
    }
    if (C::GROUPS > 1) channel += output / (C::OUTPUTS / C::GROUPS) * C::CHANNELS;
    const unsigned position = (channel / C::BLOCK * C::TAPS + tap) * C::BLOCK + channel % C::BLOCK;
    word = position / C::SIMD;
    select = position % C::SIMD;
}

// The sums of outputs `first` to `end` - 1, which come one after the other: a step for each nonzero
// and for each output. `lane_first` is the first of the
// lane.
template <class C>
void multiply_levels(
    hls::stream<packed::placed>& in, unsigned first, unsigned end, unsigned lane_first,
    const word_t<typename C::input_t, C::SIMD> (&vectors)[C::GROUP_PIXELS][C::INPUTS / C::SIMD],
    typename C::output_t (&results)[C::GROUP_PIXELS][C::PE][C::OUTPUTS / C::LANES / C::PE]) {
    typedef typename C::output_t output_t;
    typedef ap_int<bits<typename C::input_t>::value + bits<typename C::weight_t>::value + 1>
        product;
    const int PIXELS = C::GROUP_PIXELS;
    output_t accumulators[PIXELS];
    DCT_HLS(array_partition variable = accumulators complete)
clear:
    for (int pixel = 0; pixel < PIXELS; ++pixel) {
        DCT_HLS(unroll)
        accumulators[pixel] = 0;
    }
    unsigned output = first;
    bool waiting = false, is_done = false;
    packed::placed next = {0, 0, 0, false};
levels:
    while (!is_done) {
        DCT_HLS(pipeline II = 1)
        if (!waiting) next = in.read();
        // What is decoded from damaged bytes names no output of another substream either.
        const unsigned wanted = next.output.to_uint();
        const unsigned target = next.last || wanted > end ? end : wanted;
        const bool ends_output = output < target;
        waiting = ends_output;
        if (ends_output) {
            const unsigned place = output - lane_first;
        store:
            for (int pixel = 0; pixel < PIXELS; ++pixel) {
                DCT_HLS(unroll)
                results[pixel][place % C::PE][place / C::PE] = accumulators[pixel];
                accumulators[pixel] = 0;
            }
            ++output;
        } else if (next.last) {
            is_done = true;
        } else {
            unsigned word, select;
            locate<C>(output, next.column.to_uint(), word, select);
            const typename C::weight_t weight = next.level;
            typename C::input_t x[PIXELS];
            DCT_HLS(array_partition variable = x complete)
        take:
            for (int pixel = 0; pixel < PIXELS; ++pixel) {
                DCT_HLS(unroll)
                x[pixel] = select_lane<typename C::input_t, C::SIMD>(vectors[pixel][word],
                                                                     static_cast<int>(select));
            }
            product products[PIXELS];
            DCT_HLS(array_partition variable = products complete)
        pairs:
            for (int pair = 0; pair < PIXELS / 2; ++pair) {
                DCT_HLS(unroll)
                multiplier<C::MULTIPLIER>::pair(x[2 * pair], x[2 * pair + 1], weight,
                                                products[2 * pair], products[2 * pair + 1]);
            }
            if (PIXELS % 2)
                multiplier<C::MULTIPLIER>::one(x[PIXELS - 1], weight, products[PIXELS - 1]);
        add:
            for (int pixel = 0; pixel < PIXELS; ++pixel) {
                DCT_HLS(unroll)
                accumulators[pixel] += products[pixel];
            }
        }
    }
}

template <class C>
void decode_and_multiply(
    const packed::word32* codes, const packed::word32* raw, unsigned kind, packed::substream part,
    const packed::code_table<C::SYMBOLS>& table, unsigned lane_first,
    const word_t<typename C::input_t, C::SIMD> (&vectors)[C::GROUP_PIXELS][C::INPUTS / C::SIMD],
    typename C::output_t (&results)[C::GROUP_PIXELS][C::PE][C::OUTPUTS / C::LANES / C::PE],
    bool& failed) {
    DCT_HLS(dataflow)
    hls::stream<packed::placed> levels;
    DCT_HLS(stream variable = levels depth = 16)
    packed::decode_substream(codes, raw, kind, part.codes_at, part.code_bytes, part.raw_bytes,
                             table, part.first, part.outputs, unsigned(C::TAPS * C::CHANNELS),
                             levels, failed);
    multiply_levels<C>(levels, part.first, part.first + part.outputs, lane_first, vectors, results);
}

// A lane's substreams, one after the other.
template <class C>
void stream_lane(
    packed::streamed<C::SYMBOLS>& weights, const packed::word32* codes, const packed::word32* raw,
    const word_t<typename C::input_t, C::SIMD> (&vectors)[C::GROUP_PIXELS][C::INPUTS / C::SIMD],
    typename C::output_t (&results)[C::GROUP_PIXELS][C::PE][C::OUTPUTS / C::LANES / C::PE]) {
    const unsigned lane_first = weights.parts[0].first;
substreams:
    for (unsigned s = 0; s < weights.count; ++s) {
        bool failed = false;
        decode_and_multiply<C>(codes, raw, weights.kind, weights.parts[s], weights.table,
                               lane_first, vectors, results, failed);
        if (failed) weights.failed = true;
    }
}

}  // namespace detail

// Everything but the decoding, which LANES decoders do at once.
template <class C>
struct streamed_unit {
    static_assert(C::PIXELS % C::GROUP_PIXELS == 0, "GROUP_PIXELS must divide PIXELS");
    static_assert(C::INPUTS % C::SIMD == 0, "SIMD must divide INPUTS");
    static_assert(C::OUTPUTS % (C::LANES * C::PE) == 0, "PE must divide the outputs of a lane");
    static const int WORDS = C::INPUTS / C::SIMD;
    static const int LANE_WORDS = C::OUTPUTS / C::LANES / C::PE;
    typedef word_t<typename C::input_t, C::SIMD> input_word;
    typedef typename C::output_t output_t;

    static void fill(hls::stream<input_word>& in,
                     input_word (&vectors)[C::LANES][C::GROUP_PIXELS][WORDS]) {
        DCT_HLS(inline off)
        int pixel = 0, word = 0;
    words:
        for (int i = 0; i < C::GROUP_PIXELS * WORDS; ++i) {
            DCT_HLS(pipeline II = 1)
            const input_word value = in.read();
        copies:
            for (int lane = 0; lane < C::LANES; ++lane) {
                DCT_HLS(unroll)
                vectors[lane][pixel][word] = value;
            }
            if (advance<WORDS>(word)) advance<C::GROUP_PIXELS>(pixel);
        }
    }

    template <class B>
    static void emit(const output_t (&results)[C::LANES][C::GROUP_PIXELS][C::PE][LANE_WORDS],
                     const B (&bias)[C::OUTPUTS], hls::stream<word_t<output_t, C::PE> >& out) {
        DCT_HLS(inline off)
        int pixel = 0, lane = 0, word = 0, output = 0;
    words:
        for (int i = 0; i < C::GROUP_PIXELS * C::LANES * LANE_WORDS; ++i) {
            DCT_HLS(pipeline II = 1)
            output_t values[C::PE];
            DCT_HLS(array_partition variable = values complete)
        outputs:
            for (int pe = 0; pe < C::PE; ++pe) {
                DCT_HLS(unroll)
                values[pe] = results[lane][pixel][pe][word] + output_t(bias[output + pe]);
            }
            out.write(pack(values));
            output = output == C::OUTPUTS - C::PE ? 0 : output + C::PE;
            if (advance<LANE_WORDS>(word) && advance<C::LANES>(lane))
                advance<C::GROUP_PIXELS>(pixel);
        }
    }
};

namespace detail {

// The decoders of a unit, which work at once.
template <class C>
void stream_lanes(
    packed::streamed<C::SYMBOLS> (&place)[1],
    const typename streamed_unit<C>::input_word (
        &vectors)[1][C::GROUP_PIXELS][streamed_unit<C>::WORDS],
    typename C::output_t (&results)[1][C::GROUP_PIXELS][C::PE][streamed_unit<C>::LANE_WORDS],
    const packed::word32* codes, const packed::word32* raw) {
    stream_lane<C>(place[0], codes, raw, vectors[0], results[0]);
}

template <class C>
void stream_lanes(
    packed::streamed<C::SYMBOLS> (&place)[2],
    const typename streamed_unit<C>::input_word (
        &vectors)[2][C::GROUP_PIXELS][streamed_unit<C>::WORDS],
    typename C::output_t (&results)[2][C::GROUP_PIXELS][C::PE][streamed_unit<C>::LANE_WORDS],
    const packed::word32* codes, const packed::word32* raw, const packed::word32* codes_1,
    const packed::word32* raw_1) {
    DCT_HLS(dataflow)
    stream_lane<C>(place[0], codes, raw, vectors[0], results[0]);
    stream_lane<C>(place[1], codes_1, raw_1, vectors[1], results[1]);
}

template <class C>
void stream_lanes(
    packed::streamed<C::SYMBOLS> (&place)[4],
    const typename streamed_unit<C>::input_word (
        &vectors)[4][C::GROUP_PIXELS][streamed_unit<C>::WORDS],
    typename C::output_t (&results)[4][C::GROUP_PIXELS][C::PE][streamed_unit<C>::LANE_WORDS],
    const packed::word32* codes, const packed::word32* raw, const packed::word32* codes_1,
    const packed::word32* raw_1, const packed::word32* codes_2, const packed::word32* raw_2,
    const packed::word32* codes_3, const packed::word32* raw_3) {
    DCT_HLS(dataflow)
    stream_lane<C>(place[0], codes, raw, vectors[0], results[0]);
    stream_lane<C>(place[1], codes_1, raw_1, vectors[1], results[1]);
    stream_lane<C>(place[2], codes_2, raw_2, vectors[2], results[2]);
    stream_lane<C>(place[3], codes_3, raw_3, vectors[3], results[3]);
}

}  // namespace detail

// `masters` are LANES pairs of pointers to the container, a pair for the two sections that a
// decoder reads at once. The sums may wrap in output_t: it holds the result.
template <class C, class B, class... MASTERS>
void streamed_matrix_vector(hls::stream<word_t<typename C::input_t, C::SIMD> >& in,
                            packed::streamed<C::SYMBOLS> (&place)[C::LANES],
                            const B (&bias)[C::OUTPUTS],
                            hls::stream<word_t<typename C::output_t, C::PE> >& out,
                            MASTERS... masters) {
    static_assert(sizeof...(MASTERS) == 2 * C::LANES, "each lane has two masters");
    typedef streamed_unit<C> unit;
    const int LANES = C::LANES, PIXELS = C::GROUP_PIXELS;
    DCT_HLS(array_partition variable = place complete)
    DCT_HLS(array_partition variable = bias cyclic factor = C::PE)

    // Each lane owns a read port, so it has a copy of the vectors.
    DCT_MEMORY typename unit::input_word vectors[LANES][PIXELS][unit::WORDS];
    DCT_HLS(array_partition variable = vectors complete dim = 1)
    DCT_HLS(array_partition variable = vectors complete dim = 2)
    if (ultra_ram<C>::vectors) {
        DCT_HLS(bind_storage variable = vectors type = ram_s2p impl = uram)
    }
    DCT_MEMORY typename C::output_t results[LANES][PIXELS][C::PE][unit::LANE_WORDS];
    DCT_HLS(array_partition variable = results complete dim = 1)
    DCT_HLS(array_partition variable = results complete dim = 2)
    DCT_HLS(array_partition variable = results complete dim = 3)
    if (ultra_ram<C>::results) {
        DCT_HLS(bind_storage variable = results type = ram_s2p impl = uram)
    }

groups:
    for (int group = 0; group < C::PIXELS / PIXELS; ++group) {
        unit::fill(in, vectors);
        detail::stream_lanes<C>(place, vectors, results, masters...);
        unit::emit(results, bias, out);
    }
}

}  // namespace dct

#endif
