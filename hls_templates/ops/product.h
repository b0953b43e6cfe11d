#ifndef DCT_OPS_PRODUCT_H
#define DCT_OPS_PRODUCT_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// a * b, exact: output_t holds the product.
template <class C>
void product(hls::stream<word_t<typename C::a_t, C::LANES> >& a,
             hls::stream<word_t<typename C::b_t, C::LANES> >& b,
             hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        typename C::a_t x[C::LANES];
        typename C::b_t y[C::LANES];
        unpack(a.read(), x);
        unpack(b.read(), y);
        typename C::output_t products[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            products[lane] = x[lane] * y[lane];
        }
        out.write(pack(products));
    }
}

}  // namespace dct

#endif
