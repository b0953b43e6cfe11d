#ifndef DCT_OPS_TRANSPOSE_H
#define DCT_OPS_TRANSPOSE_H

#include <hls_stream.h>

#include "storage.h"
#include "word.h"

namespace dct {

// Stores a frame of TOTAL elements, one a word, and reads it in another order: dimension i of the
// output has OUT_i elements that lie STRIDE_i apart in the input.
template <class C>
void transpose(hls::stream<ap_int<C::BITS> >& in, hls::stream<ap_int<C::BITS> >& out) {
    DCT_MEMORY ap_int<C::BITS> frame[C::TOTAL];
    if (ultra_ram<C>::frame) {
        DCT_HLS(bind_storage variable = frame type = ram_s2p impl = uram)
    }
store:
    for (int i = 0; i < C::TOTAL; ++i) {
        DCT_HLS(pipeline II = 1)
        frame[i] = in.read();
    }
dimension_0:
    for (int i = 0; i < C::OUT_0; ++i) {
    dimension_1:
        for (int j = 0; j < C::OUT_1; ++j) {
        dimension_2:
            for (int k = 0; k < C::OUT_2; ++k) {
            dimension_3:
                for (int l = 0; l < C::OUT_3; ++l) {
                dimension_4:
                    for (int m = 0; m < C::OUT_4; ++m) {
                        DCT_HLS(pipeline II = 1)
                        out.write(frame[i * C::STRIDE_0 + j * C::STRIDE_1 + k * C::STRIDE_2 +
                                        l * C::STRIDE_3 + m * C::STRIDE_4]);
                    }
                }
            }
        }
    }
}

}  // namespace dct

#endif
