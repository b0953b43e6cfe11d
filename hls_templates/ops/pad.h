#ifndef DCT_OPS_PAD_H
#define DCT_OPS_PAD_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// An input box of IN_0 x IN_1 x IN_2 words inside an output box, at BEFORE_i; VALUE around it.
template <class C>
void pad(hls::stream<ap_int<C::LANES * C::BITS> >& in,
         hls::stream<ap_int<C::LANES * C::BITS> >& out) {
    const ap_int<C::LANES * C::BITS> padding =
        splat<ap_int<C::BITS>, C::LANES>(ap_int<C::BITS>(C::VALUE));
outer:
    for (int i = 0; i < C::OUT_0; ++i) {
    middle:
        for (int j = 0; j < C::OUT_1; ++j) {
        inner:
            for (int k = 0; k < C::OUT_2; ++k) {
                DCT_HLS(pipeline II = 1)
                const bool inside = i >= C::BEFORE_0 && i < C::BEFORE_0 + C::IN_0 &&
                                    j >= C::BEFORE_1 && j < C::BEFORE_1 + C::IN_1 &&
                                    k >= C::BEFORE_2 && k < C::BEFORE_2 + C::IN_2;
                out.write(inside ? in.read() : padding);
            }
        }
    }
}

}  // namespace dct

#endif
