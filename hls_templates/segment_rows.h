// Cuts the rows of a picture into SEGMENTS pieces, each with what a kernel needs around it, and
// sends the pieces side by side: a word holds one channel of SEGMENTS pixels that lie DISTANCE
// apart. What lies outside of the picture is PADDING. Row after row, PIECE_WIDTH columns, then
// channels.
#ifndef DCT_SEGMENT_ROWS_H
#define DCT_SEGMENT_ROWS_H

#include <hls_stream.h>

#include "line_buffer.h"
#include "loops.h"
#include "storage.h"
#include "word.h"

namespace dct {

// Column j of piece p is column j - PAD_LEFT + p * DISTANCE of the picture, and row r of the
// PADDED_HEIGHT ones is row r - PAD_TOP.
template <class C>
void segment_rows(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                  hls::stream<word_t<typename C::input_t, C::SEGMENTS> >& out) {
    static_assert(C::CHANNELS % C::LANES == 0, "LANES must divide CHANNELS");
    static_assert(C::PAD_LEFT <= C::DISTANCE && C::PIECE_WIDTH - C::PAD_LEFT <= 2 * C::DISTANCE,
                  "a piece reaches into the ones beside it only");
    typedef typename C::input_t input_t;
    typedef word_t<input_t, C::LANES> word;
    const int LANES = C::LANES;
    const int SEGMENTS = C::SEGMENTS;
    const int PIXEL_WORDS = C::CHANNELS / LANES;
    const int BANKS = (C::WIDTH + C::DISTANCE - 1) / C::DISTANCE;
    const int BANK_WORDS = C::DISTANCE * PIXEL_WORDS;
    const int FILL = C::WIDTH * PIXEL_WORDS, EMIT = C::PIECE_WIDTH * C::CHANNELS;
    const int ROW_STEPS = FILL > EMIT ? FILL : EMIT;
    const int EARLY = C::PAD_TOP > 0 ? 0 : 1;  // rows read before the first one is sent
    const int NEEDED = detail::clamp(C::PADDED_HEIGHT - C::PAD_TOP, 0, C::HEIGHT);
    const int FIRST = EARLY * FILL, LAST = (C::HEIGHT - NEEDED) * FILL;
    const input_t padding = static_cast<input_t>(C::PADDING);

    // Two rows, one written while the other is read; a read may follow a write by one step, where
    // rows meet, so that only accesses within a step are declared independent.
    DCT_MEMORY word pieces[BANKS][2 * BANK_WORDS];
    DCT_HLS(array_partition variable = pieces complete dim = 1)
    if (ultra_ram<C>::pieces) {
        DCT_HLS(bind_storage variable = pieces type = ram_s2p impl = uram)
    }
    int bank = 0, bank_word = 0, filled = 0;  // of the row that comes in
    int position = 0, row = -EARLY;           // row of the padded picture that is sent
    int column = -C::PAD_LEFT, channel_word = 0, lane = 0;
steps:
    for (int step = 0; step < FIRST + C::PADDED_HEIGHT * ROW_STEPS + LAST; ++step) {
        DCT_HLS(pipeline II = 1)
        DCT_HLS(dependence variable = pieces type = intra dependent = false)
        const int arriving = row + 1 - C::PAD_TOP, leaving = row - C::PAD_TOP;
        const bool is_dropped = row >= C::PADDED_HEIGHT;
        if (is_dropped) {
            in.read();
        } else if (arriving >= 0 && arriving < C::HEIGHT &&
                   arriving < C::PADDED_HEIGHT - C::PAD_TOP && filled < FILL) {
            pieces[bank][(arriving & 1) * BANK_WORDS + bank_word] = in.read();
            ++filled;
            if (filled == FILL)
                bank = bank_word = 0;
            else if (advance<BANK_WORDS>(bank_word))
                ++bank;
        }
        if (row >= 0 && !is_dropped && position < EMIT) {
            const int move = column < 0 ? -1 : column >= C::DISTANCE ? 1 : 0;
            const int address = (leaving & 1) * BANK_WORDS +
                                (column - move * C::DISTANCE) * PIXEL_WORDS + channel_word;
            input_t held[BANKS], values[SEGMENTS];
            DCT_HLS(array_partition variable = held complete)
            DCT_HLS(array_partition variable = values complete)
        banks:
            for (int one = 0; one < BANKS; ++one) {
                DCT_HLS(unroll)
                input_t lanes[LANES];
                DCT_HLS(array_partition variable = lanes complete)
                unpack<input_t, LANES>(pieces[one][address], lanes);
                held[one] = lanes[lane];
            }
        segments:
            for (int segment = 0; segment < SEGMENTS; ++segment) {
                DCT_HLS(unroll)
                const int x = column + segment * C::DISTANCE;
                const bool inside = x >= 0 && x < C::WIDTH && leaving >= 0 && leaving < C::HEIGHT;
                // Of this piece or the one beside it, all known when the loop is unrolled.
                const input_t left = segment > 0 ? held[segment > 0 ? segment - 1 : 0] : padding;
                const input_t here = segment < BANKS ? held[segment % BANKS] : padding;
                const input_t right = segment + 1 < BANKS ? held[(segment + 1) % BANKS] : padding;
                const input_t moved = move < 0 ? left : move > 0 ? right : here;
                values[segment] = inside ? moved : padding;
            }
            out.write(pack(values));
            if (advance<LANES>(lane) && advance<PIXEL_WORDS>(channel_word)) ++column;
        }
        if (position == (row < 0 ? FILL : ROW_STEPS) - 1) {
            ++row;
            position = filled = 0;
            column = -C::PAD_LEFT;
        } else {
            ++position;
        }
    }
}

}  // namespace dct

#endif
