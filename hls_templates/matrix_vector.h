// Matrix-vector unit, folded: PE rows x SIMD columns of a GROUPS x (ROWS, COLUMNS) matrix a cycle.
#ifndef DCT_MATRIX_VECTOR_H
#define DCT_MATRIX_VECTOR_H

#include <hls_stream.h>

#include "multiply.h"
#include "weights.h"
#include "word.h"

namespace dct {

// weights[(group * ROWS / PE + row fold) * COLUMNS / SIMD + column fold] holds element
// pe * SIMD + simd. The sums may wrap in output_t: it holds the result, and addition is modular.
template <class C, class CHUNK, class B>
void matrix_vector(hls::stream<word_t<typename C::input_t, C::SIMD> >& in,
                   const CHUNK (&weights)[C::GROUPS * (C::ROWS / C::PE) * (C::COLUMNS / C::SIMD)]
                                         [chunks<typename C::weight_t, C::PE * C::SIMD>::COUNT],
                   const B (&bias)[C::GROUPS * C::ROWS],
                   hls::stream<word_t<typename C::output_t, C::PE> >& out) {
    static_assert(C::ROWS % C::PE == 0, "PE must divide ROWS");
    static_assert(C::COLUMNS % C::SIMD == 0, "SIMD must divide COLUMNS");
    typedef typename C::weight_t weight_t;
    typedef ap_int<bits<weight_t>::value + bits<typename C::input_t>::value + 1> product;
    const int PE = C::PE;
    const int SIMD = C::SIMD;
    const int ROW_FOLDS = C::ROWS / PE;
    const int COLUMN_FOLDS = C::COLUMNS / SIMD;
    // A vector is kept only where a second row fold wants it.
    const int KEPT = ROW_FOLDS > 1 ? COLUMN_FOLDS : 1;
    DCT_HLS(array_reshape variable = weights complete dim = 2)
    DCT_HLS(array_partition variable = bias cyclic factor = PE)

    // Whole words, so that no lane is written by itself.
    DCT_MEMORY word_t<typename C::input_t, SIMD> vector[KEPT];
    typename C::output_t sums[PE];
    DCT_HLS(array_partition variable = sums complete)

pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
    groups:
        for (int group = 0; group < C::GROUPS; ++group) {
        row_folds:
            for (int row = 0; row < ROW_FOLDS; ++row) {
            column_folds:
                for (int column = 0; column < COLUMN_FOLDS; ++column) {
                    DCT_HLS(pipeline II = 1)
                    const int kept = KEPT > 1 ? column : 0;
                    word_t<typename C::input_t, SIMD> word;
                    if (row == 0) {
                        word = in.read();
                        vector[kept] = word;
                    } else {
                        word = vector[kept];
                    }
                    typename C::input_t x[SIMD];
                    unpack(word, x);
                    const int block = group * ROW_FOLDS + row;
                    const int fold = block * COLUMN_FOLDS + column;
                    // The recurrence is a single addition: the products are summed apart.
                    typename C::output_t dots[PE];
                    DCT_HLS(array_partition variable = dots complete)
                pairs:
                    for (int pair = 0; pair < PE / 2; ++pair) {
                        DCT_HLS(unroll)
                        typename C::output_t first_dot = 0, second_dot = 0;
                    columns:
                        for (int simd = 0; simd < SIMD; ++simd) {
                            DCT_HLS(unroll)
                            product first, second;
                            multiplier<C::MULTIPLIER>::pair(
                                get_weight<weight_t>(weights[fold], 2 * pair * SIMD + simd),
                                get_weight<weight_t>(weights[fold], (2 * pair + 1) * SIMD + simd),
                                x[simd], first, second);
                            first_dot += first;
                            second_dot += second;
                        }
                        dots[2 * pair] = first_dot;
                        dots[2 * pair + 1] = second_dot;
                    }
                    if (PE % 2) {
                        typename C::output_t dot = 0;
                    last_columns:
                        for (int simd = 0; simd < SIMD; ++simd) {
                            DCT_HLS(unroll)
                            product last;
                            multiplier<C::MULTIPLIER>::one(
                                get_weight<weight_t>(weights[fold], (PE - 1) * SIMD + simd),
                                x[simd], last);
                            dot += last;
                        }
                        dots[PE - 1] = dot;
                    }
                rows:
                    for (int pe = 0; pe < PE; ++pe) {
                        DCT_HLS(unroll)
                        const typename C::output_t sum =
                            column == 0 ? typename C::output_t(bias[block * PE + pe]) : sums[pe];
                        sums[pe] = sum + dots[pe];
                    }
                    if (column == COLUMN_FOLDS - 1) out.write(pack(sums));
                }
            }
        }
    }
}

}  // namespace dct

#endif
