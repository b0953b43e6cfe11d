#ifndef DCT_OPS_CLIP_H
#define DCT_OPS_CLIP_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// min(max(x, LOW), HIGH), without the bound that CLIPS_LOW or CLIPS_HIGH says no value passes
template <class C>
void clip(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
          hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    // The output holds the bounds. One bit more, for unsigned types.
    const int IN = bits<typename C::input_t>::value, OUT = bits<typename C::output_t>::value;
    typedef ap_int<(IN > OUT ? IN : OUT) + 1> wide;
    const wide low = C::LOW, high = C::HIGH;
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        typename C::input_t x[C::LANES];
        unpack(in.read(), x);
        typename C::output_t y[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            wide value = x[lane];
            if (C::CLIPS_LOW && value < low) value = low;
            if (C::CLIPS_HIGH && value > high) value = high;
            y[lane] = value;
        }
        out.write(pack(y));
    }
}

}  // namespace dct

#endif
