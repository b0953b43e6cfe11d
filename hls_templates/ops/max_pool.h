#ifndef DCT_OPS_MAX_POOL_H
#define DCT_OPS_MAX_POOL_H

#include <hls_stream.h>

#include "loops.h"
#include "word.h"

namespace dct {

namespace detail {

// best[i] = first ? x[i] : max(best[i], x[i])
template <class T, int LANES>
void keep_maximum(bool first, const T (&x)[LANES], T (&best)[LANES]) {
    DCT_HLS(inline)
maximum_lanes:
    for (int lane = 0; lane < LANES; ++lane) {
        DCT_HLS(unroll)
        best[lane] = first || x[lane] > best[lane] ? x[lane] : best[lane];
    }
}

}  // namespace detail

// Lane-wise maximum of the TAPS words of each of COUNT output words.
template <class C>
void max_pool(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
              hls::stream<word_t<typename C::input_t, C::LANES> >& out) {
    typename C::input_t best[C::LANES];
    DCT_HLS(array_partition variable = best complete)
words:
    for (int word = 0; word < C::COUNT; ++word) {
    taps:
        for (int tap = 0; tap < C::TAPS; ++tap) {
            DCT_HLS(pipeline II = 1)
            typename C::input_t x[C::LANES];
            unpack(in.read(), x);
            detail::keep_maximum(tap == 0, x, best);
            if (tap == C::TAPS - 1) out.write(pack(best));
        }
    }
}

// Lane-wise maximum over the pixels of a (PIXELS, CHANNELS) stream.
template <class C>
void global_max_pool(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                     hls::stream<word_t<typename C::input_t, C::LANES> >& out) {
    const int WORDS = C::CHANNELS / C::LANES;
    enum { BANKS = update_banks(WORDS) };  // an enum: only a pragma uses it
    DCT_MEMORY typename C::input_t best[WORDS][C::LANES];
    DCT_HLS(array_partition variable = best cyclic factor = BANKS dim = 1)
    DCT_HLS(array_reshape variable = best complete dim = 2)
pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
    words:
        for (int word = 0; word < WORDS; ++word) {
            DCT_HLS(pipeline II = 1)
            DCT_HLS(dependence variable = best type = inter direction = RAW distance = WORDS true)
            typename C::input_t x[C::LANES];
            unpack(in.read(), x);
            detail::keep_maximum(pixel == 0, x, best[word]);
            if (pixel == C::PIXELS - 1) out.write(pack(best[word]));
        }
    }
}

}  // namespace dct

#endif
