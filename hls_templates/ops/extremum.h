#ifndef DCT_OPS_EXTREMUM_H
#define DCT_OPS_EXTREMUM_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// The larger of a << LEFT_A and b << LEFT_B, or the smaller one. wide_t holds both.
template <class C>
void extremum(hls::stream<word_t<typename C::a_t, C::LANES> >& a,
              hls::stream<word_t<typename C::b_t, C::LANES> >& b,
              hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef typename C::wide_t wide;
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        typename C::a_t x[C::LANES];
        typename C::b_t y[C::LANES];
        unpack(a.read(), x);
        unpack(b.read(), y);
        typename C::output_t chosen[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            const wide left = wide(x[lane]) << C::LEFT_A;
            const wide right = wide(y[lane]) << C::LEFT_B;
            chosen[lane] = (left > right) == (C::LARGEST != 0) ? left : right;
        }
        out.write(pack(chosen));
    }
}

}  // namespace dct

#endif
