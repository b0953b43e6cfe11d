// Centre stage of the clustered unit: appends the responses of the common centres to those of the
// basis, so that a block of coefficients costs one addition for its centre and one multiplication
// for each nonzero of its private residual (CNNpack, equation 5).
#ifndef DCT_CENTRE_RESPONSES_H
#define DCT_CENTRE_RESPONSES_H

#include <hls_stream.h>

#include "loops.h"
#include "multiply.h"
#include "weights.h"
#include "word.h"

namespace dct {

// A word in holds TAPS frequencies of LANES channels, element f * LANES + lane. The word out has
// CENTRES more: element (TAPS + k) * LANES + lane is the sum over f of centre k times response f.
// PER_STEP of them are made a step; a row of `centres` has what they need. output_t holds the sums,
// which may wrap on the way.
template <class C, class CHUNK>
void centre_responses(
    hls::stream<word_t<typename C::input_t, C::TAPS * C::LANES> >& in,
    const CHUNK (&centres)[C::CENTRES / C::PER_STEP]
                          [chunks<typename C::centre_t, C::PER_STEP * C::TAPS>::COUNT],
    hls::stream<word_t<typename C::output_t, (C::TAPS + C::CENTRES) * C::LANES> >& out) {
    static_assert(C::CENTRES % C::PER_STEP == 0, "PER_STEP must divide CENTRES");
    typedef typename C::output_t output_t;
    const int TAPS = C::TAPS;
    const int LANES = C::LANES;
    const int PER_STEP = C::PER_STEP;
    const int FOLDS = C::CENTRES / PER_STEP;
    DCT_HLS(array_reshape variable = centres complete dim = 2)

    typename C::input_t z[TAPS * LANES];
    DCT_HLS(array_partition variable = z complete)
    output_t result[(TAPS + C::CENTRES) * LANES];
    DCT_HLS(array_partition variable = result complete)
    int fold = 0;
steps:
    for (int step = 0; step < C::COUNT * FOLDS; ++step) {
        DCT_HLS(pipeline II = 1)
        if (fold == 0) {
            unpack(in.read(), z);
        responses:
            for (int i = 0; i < TAPS * LANES; ++i) {
                DCT_HLS(unroll)
                result[i] = z[i];
            }
        }
        output_t sums[PER_STEP][LANES];
        DCT_HLS(array_partition variable = sums complete dim = 0)
    common:
        for (int p = 0; p < PER_STEP; ++p) {
            DCT_HLS(unroll)
        channels:
            for (int lane = 0; lane < LANES; ++lane) {
                DCT_HLS(unroll)
                output_t sum = 0;
            frequencies:
                for (int f = 0; f < TAPS; ++f) {
                    DCT_HLS(unroll)
                    sum += multiply(z[f * LANES + lane],
                                    get_weight<typename C::centre_t>(centres[fold], p * TAPS + f));
                }
                sums[p][lane] = sum;
            }
        }
    keep:  // every register is written by one sum only: an enable, no multiplexer
        for (int k = 0; k < C::CENTRES; ++k) {
            DCT_HLS(unroll)
        keep_channels:
            for (int lane = 0; lane < LANES; ++lane) {
                DCT_HLS(unroll)
                if (fold == k / PER_STEP)
                    result[(TAPS + k) * LANES + lane] = sums[k % PER_STEP][lane];
            }
        }
        if (fold == FOLDS - 1) out.write(pack(result));
        advance<FOLDS>(fold);
    }
}

}  // namespace dct

#endif
