#ifndef DCT_OPS_AFFINE_H
#define DCT_OPS_AFFINE_H

#include <hls_stream.h>

#include "loops.h"
#include "multiply.h"
#include "word.h"

namespace dct {

// x * scale[channel] + offset[channel]. Exact: output_t holds the result, and the arithmetic inside
// it is modular.
template <class C, class S, class O>
void affine(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
            const S (&scale)[C::PERIOD * C::LANES], const O (&offset)[C::PERIOD * C::LANES],
            hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef typename C::output_t output;
    const int LANES = C::LANES;
    DCT_HLS(array_reshape variable = scale cyclic factor = LANES)
    DCT_HLS(array_reshape variable = offset cyclic factor = LANES)
    int position = 0;
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        typename C::input_t x[LANES];
        unpack(in.read(), x);
        output y[LANES];
    lanes:
        for (int lane = 0; lane < LANES; ++lane) {
            DCT_HLS(unroll)
            const int channel = position * LANES + lane;
            y[lane] =
                multiply(x[lane], typename C::scale_t(scale[channel])) + output(offset[channel]);
        }
        out.write(pack(y));
        advance<C::PERIOD>(position);
    }
}

}  // namespace dct

#endif
