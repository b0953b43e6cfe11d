#ifndef DCT_OPS_MATRIX_PRODUCT_H
#define DCT_OPS_MATRIX_PRODUCT_H

#include <hls_stream.h>

#include "storage.h"
#include "word.h"

namespace dct {

// a times b for each of HEADS pairs of matrices: b is held, the rows of a pass. LANES columns of
// the product are summed up at once. Exact, because output_t holds the sums.
template <class C>
void matrix_product(hls::stream<word_t<typename C::a_t, C::LANES> >& a,
                    hls::stream<word_t<typename C::b_t, C::LANES> >& b,
                    hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef word_t<typename C::b_t, C::LANES> b_word;
    const int FILLED = C::TERMS * C::WORDS, ROW_WORDS = C::TERMS / C::LANES;
    DCT_MEMORY b_word matrix[FILLED];
    if (ultra_ram<C>::matrix) {
        DCT_HLS(bind_storage variable = matrix type = ram_s2p impl = uram)
    }
    DCT_MEMORY typename C::a_t row[ROW_WORDS][C::LANES];
    DCT_HLS(array_reshape variable = row complete dim = 2)

heads:
    for (int head = 0; head < C::HEADS; ++head) {
    fill:
        for (int k = 0; k < FILLED; ++k) {
            DCT_HLS(pipeline II = 1)
            matrix[k] = b.read();
        }
    rows:
        for (int m = 0; m < C::ROWS; ++m) {
        read_row:
            for (int word = 0; word < ROW_WORDS; ++word) {
                DCT_HLS(pipeline II = 1)
                unpack(a.read(), row[word]);
            }
        columns:
            for (int word = 0; word < C::WORDS; ++word) {
                typename C::output_t sums[C::LANES];
                DCT_HLS(array_partition variable = sums complete)
            terms:
                for (int k = 0; k < C::TERMS; ++k) {
                    DCT_HLS(pipeline II = 1)
                    typename C::b_t y[C::LANES];
                    unpack(matrix[k * C::WORDS + word], y);
                    const typename C::a_t x = row[k / C::LANES][k % C::LANES];
                lanes:
                    for (int lane = 0; lane < C::LANES; ++lane) {
                        DCT_HLS(unroll)
                        const typename C::output_t term = x * y[lane];
                        sums[lane] = k == 0 ? term : typename C::output_t(sums[lane] + term);
                    }
                    if (k == C::TERMS - 1) out.write(pack(sums));
                }
            }
        }
    }
}

}  // namespace dct

#endif
