// Line buffer: turns a picture (HEIGHT, WIDTH, CHANNELS) into the kernel's view of every output
// pixel: for each pixel, block of CHANNEL_BLOCK channels, kernel y, kernel x, word of the block.
#ifndef DCT_SLIDING_WINDOW_H
#define DCT_SLIDING_WINDOW_H

#include <hls_stream.h>

#include "line_buffer.h"
#include "loops.h"
#include "storage.h"
#include "word.h"

namespace dct {

template <class C>
void sliding_window(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                    hls::stream<word_t<typename C::input_t, C::LANES> >& out) {
    typedef word_t<typename C::input_t, C::LANES> word;
    static_assert(C::CHANNEL_BLOCK % C::LANES == 0 && C::CHANNELS % C::CHANNEL_BLOCK == 0,
                  "LANES must divide CHANNEL_BLOCK, and CHANNEL_BLOCK the channels");
    const int PIXEL_WORDS = C::CHANNELS / C::LANES;
    const int BLOCK_WORDS = C::CHANNEL_BLOCK / C::LANES;
    const int BLOCKS = C::CHANNELS / C::CHANNEL_BLOCK;
    const int OUTPUT_ROW = C::OUT_WIDTH * PIXEL_WORDS * C::KERNEL_HEIGHT * C::KERNEL_WIDTH;
    typedef detail::line_buffer<C, OUTPUT_ROW> lines_t;

    DCT_MEMORY word rows[lines_t::SLOTS][lines_t::INPUT_ROW];
    if (ultra_ram<C>::rows) {
        DCT_HLS(bind_storage variable = rows type = ram_s2p impl = uram)
    }
    const word padding =
        splat<typename C::input_t, C::LANES>(static_cast<typename C::input_t>(C::PADDING));

    lines_t lines;
prologue:
    for (int i = 0; i < lines_t::PROLOGUE; ++i) {
        DCT_HLS(pipeline II = 1)
        rows[lines.load_slot][lines.load_column] = in.read();
        lines.next_word();
    }

output_rows:
    for (int oy = 0; oy < C::OUT_HEIGHT; ++oy) {
        const int loads = lines.begin_row(oy);
        int word_in_block = 0, kernel_x = 0, kernel_y = 0, block = 0;
        int left = -C::PAD_LEFT;
    steps:
        for (int i = 0; i < lines_t::ROW_STEPS; ++i) {
            DCT_HLS(pipeline II = 1)
            // The two accesses never meet within a row of outputs.
            DCT_HLS(dependence variable = rows type = inter dependent = false)
            if (i < loads) {
                rows[lines.load_slot][lines.load_column] = in.read();
                lines.next_word();
            }
            if (i < OUTPUT_ROW) {
                const int x = left + kernel_x * C::DILATION_WIDTH;
                const int column = x * PIXEL_WORDS + block * BLOCK_WORDS + word_in_block;
                out.write(lines.inside(kernel_y, x) ? rows[lines.slot(kernel_y)][column] : padding);
                if (advance<BLOCK_WORDS>(word_in_block) && advance<C::KERNEL_WIDTH>(kernel_x) &&
                    advance<C::KERNEL_HEIGHT>(kernel_y) && advance<BLOCKS>(block))
                    left += C::STRIDE_WIDTH;
            }
        }
        lines.end_row();
    }

epilogue:  // rows below the last kernel position
    for (int i = 0; i < lines_t::EPILOGUE; ++i) {
        DCT_HLS(pipeline II = 1)
        in.read();
    }
}

}  // namespace dct

#endif
