// Sparse convolution that reads its operands from line buffers: each of MACS lanes owns a copy of
// the rows under the kernel, whose words hold one channel of GROUP_PIXELS pixels of a row, each in
// a piece of its own (segment_rows.h, which has added the padding). A tap is then an address.
//
// Each step multiplies MACS nonzeros by the GROUP_PIXELS pixels of a group and adds their products
// in UNITS trees; the nonzeros of an output fill whole trees. Groups follow each other without a
// pause; when a row of outputs is complete it is emitted in the order of the picture, while the
// next row is made.
#ifndef DCT_SPARSE_ROWS_H
#define DCT_SPARSE_ROWS_H

#include <hls_stream.h>

#include "line_buffer.h"
#include "multiply.h"
#include "sparse_schedule.h"
#include "storage.h"
#include "word.h"

namespace dct {

namespace detail {

// HEIGHT, WIDTH and OUT_WIDTH are those of a piece, padding included.
template <class C>
struct piece_rounds {
    static const int IN_ROW = C::OUT_WIDTH;  // groups of a row of outputs
    static const int GROUPS = C::OUT_HEIGHT * IN_ROW;
    static const int FULL = largest(largest(C::FILL, C::STEPS), C::EMIT);
    // The last row is emitted alone.
    static const int TOTAL = GROUPS * FULL + IN_ROW * C::EMIT;
    typedef line_buffer<C, IN_ROW * FULL> lines;
};

// The sums of the products of one pixel, in UNITS trees: of those before `boundary`, and of the
// rest.
template <class C, class P>
void add_products(const P (&products)[C::MACS], int boundary, typename C::output_t& before,
                  typename C::output_t& after) {
    DCT_HLS(inline)
    const int PER_UNIT = C::MACS / C::UNITS;
    before = 0;
    after = 0;
units:
    for (int unit = 0; unit < C::UNITS; ++unit) {
        DCT_HLS(unroll)
        typename C::output_t sum = 0;
    tree:
        for (int lane = 0; lane < PER_UNIT; ++lane) {
            DCT_HLS(unroll)
            sum += products[unit * PER_UNIT + lane];
        }
        if (unit < boundary)
            before += sum;
        else
            after += sum;
    }
}

}  // namespace detail

// schedule[step] holds the entries of all lanes: row of the kernel, word of the row from its first
// tap on, weight. boundaries[step] says how many trees belong to the output that is being summed,
// the others to the next one, and in bit 7 whether that output is complete. The sums may wrap in
// output_t: it holds the result.
template <class C, class ROW, class B>
void sparse_rows(hls::stream<word_t<typename C::input_t, C::GROUP_PIXELS> >& in,
                 const ROW (&schedule)[C::STEPS], const unsigned char (&boundaries)[C::STEPS],
                 const B (&bias)[C::OUTPUTS],
                 hls::stream<word_t<typename C::output_t, C::PE> >& out) {
    typedef typename C::input_t input_t;
    typedef typename C::output_t output_t;
    typedef ap_int<bits<input_t>::value + bits<typename C::weight_t>::value + 1> product;
    typedef detail::nonzero<C> entry_t;
    typedef detail::piece_rounds<C> rounds;
    typedef typename rounds::lines lines_t;
    const int MACS = C::MACS;
    const int PE = C::PE;
    const int PIXELS = C::GROUP_PIXELS;
    const int GROUPS = rounds::GROUPS;
    const int IN_ROW = rounds::IN_ROW;
    const int OUTPUT_WORDS = C::OUTPUTS / PE;
    const int ROW_WORDS = IN_ROW * OUTPUT_WORDS;
    static_assert(C::OUTPUTS % PE == 0, "PE must divide OUTPUTS");
    static_assert(C::MACS % C::UNITS == 0, "UNITS must divide MACS");
    static_assert(C::LANES == 1 && C::PAD_TOP == 0, "a word is one channel, padding is included");
    static_assert(lines_t::EPILOGUE == 0, "segment_rows has dropped what no output needs");
    static_assert(C::FILL * IN_ROW >= lines_t::STRIDE_WORDS,
                  "the next rows are there before a row of outputs ends");
    static_assert(C::EMIT == PIXELS * OUTPUT_WORDS, "EMIT are the words of a group");
    static_assert(C::NONZEROS <= MACS * C::STEPS, "the schedule holds all NONZEROS");
    DCT_HLS(array_reshape variable = schedule complete dim = 2)

    // Of both memories one part is written while another is read. A read may follow a write by one
    // step, where rows meet, so that only accesses within a step are declared independent.
    DCT_MEMORY word_t<input_t, PIXELS> rows[MACS][lines_t::SLOTS * lines_t::INPUT_ROW];
    DCT_HLS(array_partition variable = rows complete dim = 1)
    if (ultra_ram<C>::rows) {
        DCT_HLS(bind_storage variable = rows type = ram_s2p impl = uram)
    }
    DCT_MEMORY output_t sums[PIXELS][PE][2 * ROW_WORDS];
    DCT_HLS(array_partition variable = sums complete dim = 1)
    DCT_HLS(array_partition variable = sums complete dim = 2)
    if (ultra_ram<C>::sums) {
        DCT_HLS(bind_storage variable = sums type = ram_s2p impl = uram)
    }
    output_t accumulators[PIXELS];
    DCT_HLS(array_partition variable = accumulators complete)

    lines_t lines;
prologue:
    for (int i = 0; i < lines_t::PROLOGUE; ++i) {
        DCT_HLS(pipeline II = 1)
        const word_t<input_t, PIXELS> word = in.read();
    first_copies:
        for (int lane = 0; lane < MACS; ++lane) {
            DCT_HLS(unroll)
            rows[lane][lines.load_slot * lines_t::INPUT_ROW + lines.load_column] = word;
        }
        lines.next_word();
    }

    int round = 0, position = 0, column = 0, row = 0;
    int filled = 0, loads = lines.begin_row(0);
    int output = 0, bank = 0, output_word = 0;
    int emit_piece = 0, emit_word = 0;
steps:
    for (int step = 0; step < rounds::TOTAL; ++step) {
        DCT_HLS(pipeline II = 1)
        DCT_HLS(dependence variable = rows type = intra dependent = false)
        DCT_HLS(dependence variable = sums type = intra dependent = false)
        const int half = row & 1;

        // Into rows that no tap of this row of outputs lies in.
        if (filled < loads) {
            const word_t<input_t, PIXELS> word = in.read();
        copies:
            for (int lane = 0; lane < MACS; ++lane) {
                DCT_HLS(unroll)
                rows[lane][lines.load_slot * lines_t::INPUT_ROW + lines.load_column] = word;
            }
            lines.next_word();
            ++filled;
        }

        if (round < GROUPS && position < C::STEPS) {
            int starts[C::KERNEL_HEIGHT];  // of the group, in each row under the kernel
            DCT_HLS(array_partition variable = starts complete)
        kernel_rows:
            for (int ky = 0; ky < C::KERNEL_HEIGHT; ++ky) {
                DCT_HLS(unroll)
                starts[ky] =
                    lines.slot(ky) * lines_t::INPUT_ROW + column * (C::STRIDE_WIDTH * C::CHANNELS);
            }
            product products[PIXELS][MACS];
            DCT_HLS(array_partition variable = products complete dim = 0)
        lanes:
            for (int lane = 0; lane < MACS; ++lane) {
                DCT_HLS(unroll)
                const entry_t entry(detail::entry_of<entry_t::WIDTH>(schedule[position], lane));
                input_t x[PIXELS];
                DCT_HLS(array_partition variable = x complete)
                unpack<input_t, PIXELS>(rows[lane][starts[entry.select] + entry.address], x);
            pairs:
                for (int pair = 0; pair < PIXELS / 2; ++pair) {
                    DCT_HLS(unroll)
                    multiplier<C::MULTIPLIER>::pair(x[2 * pair], x[2 * pair + 1], entry.weight,
                                                    products[2 * pair][lane],
                                                    products[2 * pair + 1][lane]);
                }
                if (PIXELS % 2)
                    multiplier<C::MULTIPLIER>::one(x[PIXELS - 1], entry.weight,
                                                   products[PIXELS - 1][lane]);
            }
            const int boundary = boundaries[position] & 127;
            const bool complete = boundaries[position] >> 7;
        pixels:
            for (int pixel = 0; pixel < PIXELS; ++pixel) {
                DCT_HLS(unroll)
                output_t before, after;
                detail::add_products<C>(products[pixel], boundary, before, after);
                const output_t held = position == 0 ? output_t(0) : accumulators[pixel];
                const output_t sum = held + before;
                if (complete)
                    sums[pixel][bank][half * ROW_WORDS + column * OUTPUT_WORDS + output_word] =
                        sum + output_t(bias[output]);
                accumulators[pixel] = complete ? after : sum;
            }
            if (complete) {
                advance<C::OUTPUTS>(output);
                if (advance<PE>(bank)) advance<OUTPUT_WORDS>(output_word);
            }
        }

        if (row > 0 && position < C::EMIT) {
            output_t word[PE];
            DCT_HLS(array_partition variable = word complete)
        emit:
            for (int pe = 0; pe < PE; ++pe) {
                DCT_HLS(unroll)
                word[pe] = sums[emit_piece][pe][(1 - half) * ROW_WORDS + emit_word];
            }
            out.write(pack(word));
            if (advance<ROW_WORDS>(emit_word)) advance<PIXELS>(emit_piece);
        }

        if (position == (round < GROUPS ? rounds::FULL : C::EMIT) - 1) {
            ++round;
            position = 0;
            if (advance<IN_ROW>(column)) {
                lines.end_row();
                loads = lines.begin_row(++row);
                filled = 0;
            }
        } else {
            ++position;
        }
    }
}

}  // namespace dct

#endif
