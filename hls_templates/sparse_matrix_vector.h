// Sparse matrix-vector unit with a static schedule: MACS multipliers a pixel walk over the nonzero
// weights, GROUP_PIXELS pixels at once.
//
// All nonzeros, output after output, are cut into MACS pieces of STEPS entries, one a lane. Four
// activities follow each other, a group of pixels behind, in rounds as long as the longest that is
// active: vectors are filled; lanes multiply and add; the partial sums of outputs that lie in
// several lanes are combined; words are emitted.
#ifndef DCT_SPARSE_MATRIX_VECTOR_H
#define DCT_SPARSE_MATRIX_VECTOR_H

#include <hls_stream.h>

#include "loops.h"
#include "multiply.h"
#include "sparse_schedule.h"
#include "storage.h"
#include "word.h"

namespace dct {

namespace detail {

// Steps of a round, and of all of them.
template <class C>
struct rounds {
    static const int GROUPS = C::PIXELS / C::GROUP_PIXELS;

    static constexpr int length(int round, int groups) {
        return largest(
            largest(round < groups ? C::FILL : 0, round >= 1 && round <= groups ? C::STEPS : 0),
            largest(round >= 2 && round <= groups + 1 ? C::PARTIALS : 0,
                    round >= 3 && round <= groups + 2 ? C::EMIT : 0));
    }
    static constexpr int total() {
        const int few = GROUPS < 3 ? GROUPS : 3;  // from 3 groups on, each one more is a full round
        const int full = largest(largest(C::FILL, C::STEPS), largest(C::PARTIALS, C::EMIT));
        return length(0, few) + length(1, few) + length(2, few) + length(3, few) + length(4, few) +
               length(5, few) + (GROUPS - few) * full;
    }
};

}  // namespace detail

// schedule[step] holds the entries of all lanes. Bit 0 of a partial says that it completes an
// output, bit 1 that it is the last of its lane, bit 2 that there is none: a table that is loaded
// need not be full. The sums may wrap in output_t: it holds the result.
template <class C, class ROW, class B>
void sparse_matrix_vector(hls::stream<word_t<typename C::input_t, C::SIMD> >& in,
                          const ROW (&schedule)[C::STEPS],
                          const unsigned char (&partials)[C::PARTIALS], const B (&bias)[C::OUTPUTS],
                          hls::stream<word_t<typename C::output_t, C::PE> >& out) {
    static_assert(C::PIXELS % C::GROUP_PIXELS == 0, "GROUP_PIXELS must divide PIXELS");
    static_assert(C::INPUTS % C::SIMD == 0, "SIMD must divide INPUTS");
    static_assert(C::OUTPUTS % C::PE == 0, "PE must divide OUTPUTS");
    typedef typename C::output_t output_t;
    typedef ap_int<bits<typename C::input_t>::value + bits<typename C::weight_t>::value + 1>
        product;
    typedef detail::rounds<C> rounds;
    typedef detail::schedule_entry<C> entry_t;
    const int MACS = C::MACS;
    const int PE = C::PE;
    const int PIXELS = C::GROUP_PIXELS;
    const int GROUPS = rounds::GROUPS;
    const int WORDS = C::INPUTS / C::SIMD;
    const int OUTPUT_WORDS = C::OUTPUTS / PE;
    static_assert(C::FILL == PIXELS * WORDS && C::EMIT == PIXELS * OUTPUT_WORDS,
                  "FILL and EMIT are words of a group");
    static_assert(C::DRAIN == detail::largest(C::PARTIALS, C::EMIT), "DRAIN is the longer of two");
    static_assert(C::NONZEROS <= MACS * C::STEPS, "the schedule holds all NONZEROS");
    static_assert(C::FREQUENCY == 0 || C::FREQUENCY == 1, "weights, or coefficients of a basis");
    DCT_HLS(array_reshape variable = schedule complete dim = 2)

    // Two halves each, one written while the other is read. A read may follow a write by one step,
    // where rounds meet, so that only accesses within a step are declared independent.
    // Each lane owns a read port, so it has a copy of the vectors.
    DCT_MEMORY word_t<typename C::input_t, C::SIMD> vectors[MACS][PIXELS][2 * WORDS];
    DCT_HLS(array_partition variable = vectors complete dim = 1)
    DCT_HLS(array_partition variable = vectors complete dim = 2)
    if (ultra_ram<C>::vectors) {
        DCT_HLS(bind_storage variable = vectors type = ram_s2p impl = uram)
    }
    DCT_MEMORY output_t results[MACS][PIXELS][2 * C::RESULTS];
    DCT_HLS(array_partition variable = results complete dim = 1)
    DCT_HLS(array_partition variable = results complete dim = 2)
    if (ultra_ram<C>::results) {
        DCT_HLS(bind_storage variable = results type = ram_s2p impl = uram)
    }
    DCT_MEMORY output_t sums[PIXELS][PE][2 * OUTPUT_WORDS];
    DCT_HLS(array_partition variable = sums complete dim = 1)
    DCT_HLS(array_partition variable = sums complete dim = 2)
    if (ultra_ram<C>::sums) {
        DCT_HLS(bind_storage variable = sums type = ram_s2p impl = uram)
    }
    output_t accumulators[MACS][PIXELS], combined[PIXELS];
    DCT_HLS(array_partition variable = accumulators complete dim = 0)
    DCT_HLS(array_partition variable = combined complete)
    int counts[MACS];  // partial sums that a lane has ended
    DCT_HLS(array_partition variable = counts complete)

    int round = 0, position = 0, length = rounds::length(0, GROUPS);
    int fill_word = 0, fill_pixel = 0;
    int lane_of_partial = 0, partial_in_lane = 0, output = 0, output_bank = 0, output_word = 0;
    bool begins_output = true;
    int emit_word = 0, emit_pixel = 0;
steps:
    for (int step = 0; step < rounds::total(); ++step) {
        DCT_HLS(pipeline II = 1)
        DCT_HLS(dependence variable = vectors type = intra dependent = false)
        DCT_HLS(dependence variable = results type = intra dependent = false)
        DCT_HLS(dependence variable = sums type = intra dependent = false)
        const int half = round & 1, other = 1 - half;

        if (round < GROUPS && position < C::FILL) {
            const word_t<typename C::input_t, C::SIMD> word = in.read();
        copies:
            for (int lane = 0; lane < MACS; ++lane) {
                DCT_HLS(unroll)
                vectors[lane][fill_pixel][half * WORDS + fill_word] = word;
            }
            if (advance<WORDS>(fill_word)) advance<PIXELS>(fill_pixel);
        }

        if (round >= 1 && round <= GROUPS && position < C::STEPS) {
        lanes:
            for (int lane = 0; lane < MACS; ++lane) {
                DCT_HLS(unroll)
                const entry_t entry(detail::entry_of<entry_t::WIDTH>(schedule[position], lane));
                const int count = position == 0 ? 0 : counts[lane];
                typename C::input_t x[PIXELS];
                DCT_HLS(array_partition variable = x complete)
            take:
                for (int pixel = 0; pixel < PIXELS; ++pixel) {
                    DCT_HLS(unroll)
                    x[pixel] = select_lane<typename C::input_t, C::SIMD>(
                        vectors[lane][pixel][other * WORDS + entry.address], entry.select);
                }
                product products[PIXELS];
                DCT_HLS(array_partition variable = products complete)
            pairs:
                for (int pair = 0; pair < PIXELS / 2; ++pair) {
                    DCT_HLS(unroll)
                    multiplier<C::MULTIPLIER>::pair(x[2 * pair], x[2 * pair + 1], entry.weight,
                                                    products[2 * pair], products[2 * pair + 1]);
                }
                if (PIXELS % 2)
                    multiplier<C::MULTIPLIER>::one(x[PIXELS - 1], entry.weight,
                                                   products[PIXELS - 1]);
            pixels:
                for (int pixel = 0; pixel < PIXELS; ++pixel) {
                    DCT_HLS(unroll)
                    const output_t before = position == 0 ? output_t(0) : accumulators[lane][pixel];
                    const output_t sum = before + products[pixel];
                    accumulators[lane][pixel] = entry.last ? output_t(0) : sum;
                    if (entry.last) results[lane][pixel][other * C::RESULTS + count] = sum;
                }
                counts[lane] = count + entry.last;
            }
        }

        if (round >= 2 && round <= GROUPS + 1 && position < C::PARTIALS) {
            const int partial = partials[position];
            const bool ends_output = partial & 1, ends_lane = partial >> 1 & 1, idle = partial >> 2;
        combine:
            for (int pixel = 0; pixel < PIXELS; ++pixel) {
                DCT_HLS(unroll)
                output_t value = 0;
            choose:
                for (int lane = 0; lane < MACS; ++lane) {
                    DCT_HLS(unroll)
                    if (lane == lane_of_partial)
                        value = results[lane][pixel][half * C::RESULTS + partial_in_lane];
                }
                const output_t before = begins_output ? output_t(bias[output]) : combined[pixel];
                if (!idle) combined[pixel] = before + value;
                if (ends_output)
                    sums[pixel][output_bank][half * OUTPUT_WORDS + output_word] = combined[pixel];
            }
            if (!idle) {
                begins_output = ends_output;
                partial_in_lane = ends_lane ? 0 : partial_in_lane + 1;
            }
            if (ends_output) {
                advance<C::OUTPUTS>(output);
                if (advance<PE>(output_bank)) advance<OUTPUT_WORDS>(output_word);
            }
            lane_of_partial = position == C::PARTIALS - 1 ? 0 : lane_of_partial + ends_lane;
        }

        if (round >= 3 && position < C::EMIT) {
            output_t word[PE];
            DCT_HLS(array_partition variable = word complete)
        emit:
            for (int pe = 0; pe < PE; ++pe) {
                DCT_HLS(unroll)
                word[pe] = sums[emit_pixel][pe][other * OUTPUT_WORDS + emit_word];
            }
            out.write(pack(word));
            if (advance<OUTPUT_WORDS>(emit_word)) advance<PIXELS>(emit_pixel);
        }

        if (position == length - 1) {
            ++round;
            length = rounds::length(round, GROUPS);
            position = 0;
        } else {
            ++position;
        }
    }
}

}  // namespace dct

#endif
