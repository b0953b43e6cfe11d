#ifndef DCT_OPS_CLIP_H
#define DCT_OPS_CLIP_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// min(max(x, LOW), HIGH)
template <class C>
void clip(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
          hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    static_assert(bits<typename C::input_t>::value < 64, "clip compares in 64 bits");
    const long long LOW = C::LOW, HIGH = C::HIGH;
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        typename C::input_t x[C::LANES];
        unpack(in.read(), x);
        typename C::output_t y[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            const long long value = x[lane].to_int64();
            y[lane] = value < LOW ? LOW : value > HIGH ? HIGH : value;
        }
        out.write(pack(y));
    }
}

}  // namespace dct

#endif
