#ifndef DCT_OPS_PRELU_H
#define DCT_OPS_PRELU_H

#include <hls_stream.h>

#include "loops.h"
#include "multiply.h"
#include "word.h"

namespace dct {

// x >= 0 ? x << FRACTION : x * slopes[channel]; a slope of 1 is 2^FRACTION. Exact: output_t holds
// the result, and the arithmetic inside it is modular.
template <class C, class S>
void prelu(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
           const S (&slopes)[C::PERIOD * C::LANES],
           hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef typename C::output_t output;
    const int LANES = C::LANES;
    DCT_HLS(array_reshape variable = slopes cyclic factor = LANES)
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
            const output positive = output(x[lane]) << C::FRACTION;
            const output negative = multiply(x[lane], output(slopes[position * LANES + lane]));
            y[lane] = x[lane] < 0 ? negative : positive;
        }
        out.write(pack(y));
        advance<C::PERIOD>(position);
    }
}

}  // namespace dct

#endif
