// What all line buffers have in common: which rows of a picture are held, where, and until when.
#ifndef DCT_LINE_BUFFER_H
#define DCT_LINE_BUFFER_H

#include "loops.h"

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

// Row y of the picture lives in slot y modulo SLOTS. The kernel that owns the memory
// word rows[SLOTS][INPUT_ROW] reads PROLOGUE words into it, then for each row of outputs takes
// ROW_STEPS steps, of which OUTPUT_ROW make outputs, and last drops the EPILOGUE words below.
template <class C, int OUTPUT_ROW>
struct line_buffer {
    static const int INPUT_ROW = C::WIDTH * (C::CHANNELS / C::LANES);  // words
    static const int STRIDE_WORDS = C::STRIDE_HEIGHT * INPUT_ROW;
    static const int ROW_STEPS = OUTPUT_ROW > STRIDE_WORDS ? OUTPUT_ROW : STRIDE_WORDS;
    static const int EXTENT = (C::KERNEL_HEIGHT - 1) * C::DILATION_HEIGHT + 1;
    // While a row of outputs is made of EXTENT rows, the next one's STRIDE_HEIGHT rows come in.
    static const int SLOTS = EXTENT + C::STRIDE_HEIGHT;
    // Rows read before the first and before the last row of outputs.
    static const int FIRST_LOADED = clamp(EXTENT - C::PAD_TOP, 0, C::HEIGHT);
    static const int LAST_LOADED =
        clamp((C::OUT_HEIGHT - 1) * C::STRIDE_HEIGHT - C::PAD_TOP + EXTENT, 0, C::HEIGHT);
    static const int PROLOGUE = FIRST_LOADED * INPUT_ROW;
    static const int EPILOGUE = (C::HEIGHT - LAST_LOADED) * INPUT_ROW;

    int load_slot, load_column;  // where the next word goes
    int loaded;                  // rows that will have been read when this row of outputs is done
    int top;                     // first row under the kernel, possibly outside the picture
    int top_slot;

    line_buffer()
        : load_slot(0),
          load_column(0),
          loaded(FIRST_LOADED),
          top(-C::PAD_TOP),
          top_slot(floor_mod(-C::PAD_TOP, SLOTS)) {}

    void next_word() {
        DCT_HLS(inline)
        if (advance<INPUT_ROW>(load_column)) advance<SLOTS>(load_slot);
    }

    // Words to read during row oy of outputs: those that the next row needs and this one does not.
    int begin_row(int oy) {
        DCT_HLS(inline)
        const int before = loaded;
        if (oy + 1 < C::OUT_HEIGHT) loaded = clamp(top + C::STRIDE_HEIGHT + EXTENT, 0, C::HEIGHT);
        return (loaded - before) * INPUT_ROW;
    }

    void end_row() {
        DCT_HLS(inline)
        top += C::STRIDE_HEIGHT;
        top_slot = wrap<SLOTS>(top_slot + C::STRIDE_HEIGHT);
    }

    // Of the row under kernel row ky.
    int slot(int ky) const {
        DCT_HLS(inline)
        return wrap<SLOTS>(top_slot + ky * C::DILATION_HEIGHT);
    }

    // Does column x of the row under kernel row ky lie in the picture?
    bool inside(int ky, int x) const {
        DCT_HLS(inline)
        const int y = top + ky * C::DILATION_HEIGHT;
        return y >= 0 && y < C::HEIGHT && x >= 0 && x < C::WIDTH;
    }
};

}  // namespace detail

}  // namespace dct

#endif
