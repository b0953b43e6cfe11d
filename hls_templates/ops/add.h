#ifndef DCT_OPS_ADD_H
#define DCT_OPS_ADD_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// (a << LEFT_A) + (b << LEFT_B), or their difference: exact, because output_t holds the result and
// the arithmetic inside it is modular.
template <class C>
void add(hls::stream<word_t<typename C::a_t, C::LANES> >& a,
         hls::stream<word_t<typename C::b_t, C::LANES> >& b,
         hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef typename C::output_t output;
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        typename C::a_t x[C::LANES];
        typename C::b_t y[C::LANES];
        unpack(a.read(), x);
        unpack(b.read(), y);
        output sum[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            const output left = output(x[lane]) << C::LEFT_A;
            const output right = output(y[lane]) << C::LEFT_B;
            sum[lane] = C::SUBTRACT ? output(left - right) : output(left + right);
        }
        out.write(pack(sum));
    }
}

}  // namespace dct

#endif
