// Basis stage over channels: transforms blocks of ROWS x COLUMNS neighbouring elements of a word.
#ifndef DCT_BASIS_CHANNELS_H
#define DCT_BASIS_CHANNELS_H

#include <hls_stream.h>

#include "basis.h"
#include "word.h"

namespace dct {

// column_t holds the blocks transformed along one axis, sum_t along both, output_t after the
// shifts.
template <class C>
void basis_channels(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                    hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    const int ROWS = C::ROWS;
    const int COLUMNS = C::COLUMNS;
    const int SIZE = ROWS * COLUMNS;
    static_assert(C::LANES % SIZE == 0, "blocks must not be cut by a word");
    typedef typename C::column_t column_t;
words:
    for (int i = 0; i < C::COUNT; ++i) {
        DCT_HLS(pipeline II = 1)
        typename C::input_t x[C::LANES];
        typename C::output_t z[C::LANES];
        unpack(in.read(), x);
    blocks:
        for (int block = 0; block < C::LANES / SIZE; ++block) {
            DCT_HLS(unroll)
            column_t columns[ROWS][COLUMNS];
            typename C::output_t frequencies[SIZE];
            DCT_HLS(array_partition variable = columns complete dim = 0)
            DCT_HLS(array_partition variable = frequencies complete)
        transform_columns:
            for (int column = 0; column < COLUMNS; ++column) {
                DCT_HLS(unroll)
                column_t given[ROWS], transformed[ROWS];
            take_column:
                for (int row = 0; row < ROWS; ++row) {
                    DCT_HLS(unroll)
                    given[row] = x[block * SIZE + row * COLUMNS + column];
                }
                detail::transform<ROWS>(given, transformed);
            put_column:
                for (int row = 0; row < ROWS; ++row) {
                    DCT_HLS(unroll)
                    columns[row][column] = transformed[row];
                }
            }
            along_rows<typename C::shifts_t, typename C::sum_t>(columns, frequencies);
        put_block:
            for (int f = 0; f < SIZE; ++f) {
                DCT_HLS(unroll)
                z[block * SIZE + f] = frequencies[f];
            }
        }
        out.write(pack(z));
    }
}

}  // namespace dct

#endif
