#ifndef DCT_OPS_CONCAT_H
#define DCT_OPS_CONCAT_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// OUTER times WORDS_A words of a, then WORDS_B of b.
template <class C>
void concat(hls::stream<ap_int<C::LANES * C::BITS> >& a,
            hls::stream<ap_int<C::LANES * C::BITS> >& b,
            hls::stream<ap_int<C::LANES * C::BITS> >& out) {
outer:
    for (int i = 0; i < C::OUTER; ++i) {
    words:
        for (int word = 0; word < C::WORDS_A + C::WORDS_B; ++word) {
            DCT_HLS(pipeline II = 1)
            out.write(word < C::WORDS_A ? a.read() : b.read());
        }
    }
}

}  // namespace dct

#endif
