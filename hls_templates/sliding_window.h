// Line buffer: turns a picture (HEIGHT, WIDTH, CHANNELS) into the kernel's view of every output
// pixel: for each pixel, block of CHANNEL_BLOCK channels, kernel y, kernel x, word of the block.
#ifndef DCT_SLIDING_WINDOW_H
#define DCT_SLIDING_WINDOW_H

#include <hls_stream.h>

#include "loops.h"
#include "word.h"

namespace dct {

namespace detail {

constexpr int clamp(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

constexpr int floor_mod(int value, int modulus) { return (value % modulus + modulus) % modulus; }

// value modulo MODULUS for a value below 2 * MODULUS.
template <int MODULUS>
int wrap(int value) {
    DCT_HLS(inline)
    return value >= MODULUS ? value - MODULUS : value;
}

}  // namespace detail

template <class C>
void sliding_window(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                    hls::stream<word_t<typename C::input_t, C::LANES> >& out) {
    typedef word_t<typename C::input_t, C::LANES> word;
    static_assert(C::CHANNEL_BLOCK % C::LANES == 0 && C::CHANNELS % C::CHANNEL_BLOCK == 0,
                  "LANES must divide CHANNEL_BLOCK, and CHANNEL_BLOCK the channels");
    const int PIXEL_WORDS = C::CHANNELS / C::LANES;
    const int BLOCK_WORDS = C::CHANNEL_BLOCK / C::LANES;
    const int BLOCKS = C::CHANNELS / C::CHANNEL_BLOCK;
    const int INPUT_ROW = C::WIDTH * PIXEL_WORDS;
    const int OUTPUT_ROW = C::OUT_WIDTH * PIXEL_WORDS * C::KERNEL_HEIGHT * C::KERNEL_WIDTH;
    const int STRIDE_WORDS = C::STRIDE_HEIGHT * INPUT_ROW;
    const int ROW_STEPS = OUTPUT_ROW > STRIDE_WORDS ? OUTPUT_ROW : STRIDE_WORDS;
    const int EXTENT = (C::KERNEL_HEIGHT - 1) * C::DILATION_HEIGHT + 1;
    // While a row of outputs is made of EXTENT rows, the next one's STRIDE_HEIGHT rows come in.
    const int SLOTS = EXTENT + C::STRIDE_HEIGHT;
    // Rows read before the first and before the last row of outputs.
    const int FIRST_LOADED = detail::clamp(EXTENT - C::PAD_TOP, 0, C::HEIGHT);
    const int LAST_LOADED =
        detail::clamp((C::OUT_HEIGHT - 1) * C::STRIDE_HEIGHT - C::PAD_TOP + EXTENT, 0, C::HEIGHT);

    DCT_MEMORY word rows[SLOTS][INPUT_ROW];  // row y lives in slot y modulo SLOTS
    const word padding =
        splat<typename C::input_t, C::LANES>(static_cast<typename C::input_t>(C::PADDING));

    int load_slot = 0, load_column = 0;
prologue:
    for (int i = 0; i < FIRST_LOADED * INPUT_ROW; ++i) {
        DCT_HLS(pipeline II = 1)
        rows[load_slot][load_column] = in.read();
        if (advance<INPUT_ROW>(load_column)) advance<SLOTS>(load_slot);
    }

    int loaded = FIRST_LOADED;
    int top = -C::PAD_TOP;  // first row under the kernel, possibly outside the picture
    int top_slot = detail::floor_mod(-C::PAD_TOP, SLOTS);
output_rows:
    for (int oy = 0; oy < C::OUT_HEIGHT; ++oy) {
        const int needed = detail::clamp(top + C::STRIDE_HEIGHT + EXTENT, 0, C::HEIGHT);
        const int next_loaded = oy + 1 < C::OUT_HEIGHT ? needed : loaded;
        const int loads = (next_loaded - loaded) * INPUT_ROW;
        int word_in_block = 0, kernel_x = 0, kernel_y = 0, block = 0;
        int left = -C::PAD_LEFT;
    steps:
        for (int i = 0; i < ROW_STEPS; ++i) {
            DCT_HLS(pipeline II = 1)
            // The two accesses never meet within a row of outputs.
            DCT_HLS(dependence variable = rows type = inter dependent = false)
            if (i < loads) {
                rows[load_slot][load_column] = in.read();
                if (advance<INPUT_ROW>(load_column)) advance<SLOTS>(load_slot);
            }
            if (i < OUTPUT_ROW) {
                const int y = top + kernel_y * C::DILATION_HEIGHT;
                const int x = left + kernel_x * C::DILATION_WIDTH;
                const int slot = detail::wrap<SLOTS>(top_slot + kernel_y * C::DILATION_HEIGHT);
                const int column = x * PIXEL_WORDS + block * BLOCK_WORDS + word_in_block;
                const bool inside = y >= 0 && y < C::HEIGHT && x >= 0 && x < C::WIDTH;
                out.write(inside ? rows[slot][column] : padding);
                if (advance<BLOCK_WORDS>(word_in_block) && advance<C::KERNEL_WIDTH>(kernel_x) &&
                    advance<C::KERNEL_HEIGHT>(kernel_y) && advance<BLOCKS>(block))
                    left += C::STRIDE_WIDTH;
            }
        }
        loaded = next_loaded;
        top += C::STRIDE_HEIGHT;
        top_slot = detail::wrap<SLOTS>(top_slot + C::STRIDE_HEIGHT);
    }

epilogue:  // rows below the last kernel position
    for (int i = 0; i < (C::HEIGHT - LAST_LOADED) * INPUT_ROW; ++i) {
        DCT_HLS(pipeline II = 1)
        in.read();
    }
}

}  // namespace dct

#endif
