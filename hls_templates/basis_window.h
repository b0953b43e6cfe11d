// Line buffer with a basis stage: turns a picture (HEIGHT, WIDTH, CHANNELS) into the basis
// responses of the window of every output pixel. A word holds all frequencies of LANES channels,
// element frequency * LANES + lane.
#ifndef DCT_BASIS_WINDOW_H
#define DCT_BASIS_WINDOW_H

#include <hls_stream.h>

#include "basis.h"
#include "line_buffer.h"
#include "loops.h"
#include "storage.h"
#include "word.h"

namespace dct {

// The kernel's right edge walks over the columns of the picture. Each column under it is
// transformed once, vertically, and kept until the window has passed it; where the window of an
// output pixel is complete, its columns are transformed horizontally. Outside the picture lies 0.
// column_t holds vertical responses, sum_t those in both directions, output_t after the shifts.
template <class C>
void basis_window(
    hls::stream<word_t<typename C::input_t, C::LANES> >& in,
    hls::stream<word_t<typename C::output_t, C::KERNEL_HEIGHT * C::KERNEL_WIDTH * C::LANES> >&
        out) {
    static_assert(C::CHANNELS % C::LANES == 0, "LANES must divide the channels");
    const int ROWS = C::KERNEL_HEIGHT;
    const int COLUMNS = C::KERNEL_WIDTH;
    const int LANES = C::LANES;
    const int PIXEL_WORDS = C::CHANNELS / LANES;
    const int EXTENT_WIDTH = (COLUMNS - 1) * C::DILATION_WIDTH + 1;
    // Where the kernel's right edge is for the first and the last pixel of a row of outputs.
    const int EDGE = EXTENT_WIDTH - 1 - C::PAD_LEFT;
    const int LAST_EDGE = EDGE + (C::OUT_WIDTH - 1) * C::STRIDE_WIDTH;
    const int FIRST_COLUMN = EDGE < 0 ? EDGE : 0;
    const int OUTPUT_ROW = (LAST_EDGE - FIRST_COLUMN + 1) * PIXEL_WORDS;
    const int KEPT = EXTENT_WIDTH > 1 ? EXTENT_WIDTH - 1 : 1;
    enum { BANKS = update_banks(PIXEL_WORDS) };  // an enum: only a pragma uses it
    typedef detail::line_buffer<C, OUTPUT_ROW> lines_t;
    typedef typename C::column_t column_t;
    typedef word_t<typename C::input_t, LANES> word;
    typedef word_t<column_t, ROWS * LANES> column_word;  // element u * LANES + lane

    DCT_MEMORY word rows[lines_t::SLOTS][lines_t::INPUT_ROW];
    DCT_HLS(array_partition variable = rows complete dim = 1)
    if (ultra_ram<C>::rows) {
        DCT_HLS(bind_storage variable = rows type = ram_s2p impl = uram)
    }
    // kept[d][block]: the column d + 1 left of the kernel's right edge.
    DCT_MEMORY column_word kept[KEPT][PIXEL_WORDS];
    DCT_HLS(array_partition variable = kept complete dim = 1)
    DCT_HLS(array_partition variable = kept cyclic factor = BANKS dim = 2)

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
        int x = FIRST_COLUMN, block = 0;
        int awaited = EDGE - FIRST_COLUMN;  // columns until the next output pixel is complete
    steps:
        for (int i = 0; i < lines_t::ROW_STEPS; ++i) {
            DCT_HLS(pipeline II = 1)
            // The two accesses never meet within a row of outputs.
            DCT_HLS(dependence variable = rows type = inter dependent = false)
            DCT_HLS(dependence variable = kept type = inter direction = RAW distance =
                        PIXEL_WORDS true)
            if (i < loads) {
                rows[lines.load_slot][lines.load_column] = in.read();
                lines.next_word();
            }
            if (i < OUTPUT_ROW) {
                word given[ROWS];
                DCT_HLS(array_partition variable = given complete)
            take_rows:
                for (int ky = 0; ky < ROWS; ++ky) {
                    DCT_HLS(unroll)
                    given[ky] = lines.inside(ky, x) ? rows[lines.slot(ky)][x * PIXEL_WORDS + block]
                                                    : word(0);
                }
                column_word columns[COLUMNS];
                DCT_HLS(array_partition variable = columns complete)
                column_word& fresh = columns[COLUMNS - 1];
            vertical:
                for (int lane = 0; lane < LANES; ++lane) {
                    DCT_HLS(unroll)
                    column_t column[ROWS], responses[ROWS];
                    DCT_HLS(array_partition variable = column complete)
                    DCT_HLS(array_partition variable = responses complete)
                take_column:
                    for (int ky = 0; ky < ROWS; ++ky) {
                        DCT_HLS(unroll)
                        column[ky] = get_lane<typename C::input_t>(given[ky], lane);
                    }
                    detail::transform<ROWS>(column, responses);
                put_column:
                    for (int u = 0; u < ROWS; ++u) {
                        DCT_HLS(unroll)
                        set_lane(fresh, u * LANES + lane, responses[u]);
                    }
                }
            take_kept:
                for (int kx = 0; kx < COLUMNS - 1; ++kx) {
                    DCT_HLS(unroll)
                    const int back = (COLUMNS - 1 - kx) * C::DILATION_WIDTH;
                    columns[kx] = x >= back ? kept[back - 1][block] : column_word(0);
                }
            keep:
                for (int d = KEPT - 1; d >= 0; --d) {
                    DCT_HLS(unroll)
                    kept[d][block] = d > 0 ? kept[d - (d > 0)][block] : fresh;
                }
                if (awaited == 0) {
                    typename C::output_t z[ROWS * COLUMNS * LANES];
                    DCT_HLS(array_partition variable = z complete)
                horizontal:
                    for (int lane = 0; lane < LANES; ++lane) {
                        DCT_HLS(unroll)
                        column_t responses[ROWS][COLUMNS];
                        typename C::output_t frequencies[ROWS * COLUMNS];
                        DCT_HLS(array_partition variable = responses complete dim = 0)
                        DCT_HLS(array_partition variable = frequencies complete)
                    take_responses:
                        for (int u = 0; u < ROWS; ++u) {
                            DCT_HLS(unroll)
                        take_columns:
                            for (int kx = 0; kx < COLUMNS; ++kx) {
                                DCT_HLS(unroll)
                                responses[u][kx] =
                                    get_lane<column_t>(columns[kx], u * LANES + lane);
                            }
                        }
                        along_rows<typename C::shifts_t, typename C::sum_t>(responses, frequencies);
                    put_frequencies:
                        for (int f = 0; f < ROWS * COLUMNS; ++f) {
                            DCT_HLS(unroll)
                            z[f * LANES + lane] = frequencies[f];
                        }
                    }
                    out.write(pack(z));
                }
                if (advance<PIXEL_WORDS>(block)) {
                    awaited = awaited == 0 ? C::STRIDE_WIDTH - 1 : awaited - 1;
                    ++x;
                }
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
