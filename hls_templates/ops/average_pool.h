// Average pooling: an exact sum, times a reciprocal wide enough that the result is the rounded
// quotient for every sum in range (the compiler proves it).
#ifndef DCT_OPS_AVERAGE_POOL_H
#define DCT_OPS_AVERAGE_POOL_H

#include <hls_stream.h>

#include "loops.h"
#include "word.h"

namespace dct {

namespace detail {

// (sum * multiplier + ROUND) >> ROUND_SHIFT in every lane. ROUND is half of 2^ROUND_SHIFT and a bit
// more where sums can be negative, since the multiplier is rounded up.
template <class C>
word_t<typename C::output_t, C::LANES> divide(const typename C::sum_t (&sums)[C::LANES],
                                              long long multiplier) {
    DCT_HLS(inline)
    typedef typename C::product_t product;
    const product half = product(C::ROUND);
    typename C::output_t quotients[C::LANES];
divide_lanes:
    for (int lane = 0; lane < C::LANES; ++lane) {
        DCT_HLS(unroll)
        const product scaled = product(sums[lane]) * product(multiplier);
        quotients[lane] = product(scaled + half) >> C::ROUND_SHIFT;
    }
    return pack(quotients);
}

// sums[i] = (first ? 0 : sums[i]) + x[i]
template <class T, class S, int LANES>
void accumulate(bool first, const T (&x)[LANES], S (&sums)[LANES]) {
    DCT_HLS(inline)
accumulate_lanes:
    for (int lane = 0; lane < LANES; ++lane) {
        DCT_HLS(unroll)
        sums[lane] = first ? S(x[lane]) : S(sums[lane] + x[lane]);
    }
}

}  // namespace detail

// Over the TAPS words of each pixel and block of LANES channels. Windows that hang over the border
// may have a multiplier of their own: POSITIONS is 1 or PIXELS.
template <class C>
void average_pool(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                  const long long (&multipliers)[C::POSITIONS],
                  hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typename C::sum_t sums[C::LANES];
    DCT_HLS(array_partition variable = sums complete)
pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
    blocks:
        for (int block = 0; block < C::CHANNELS / C::LANES; ++block) {
        taps:
            for (int tap = 0; tap < C::TAPS; ++tap) {
                DCT_HLS(pipeline II = 1)
                typename C::input_t x[C::LANES];
                unpack(in.read(), x);
                detail::accumulate(tap == 0, x, sums);
                if (tap == C::TAPS - 1)
                    out.write(detail::divide<C>(sums, multipliers[C::POSITIONS > 1 ? pixel : 0]));
            }
        }
    }
}

// Over the pixels of a (PIXELS, CHANNELS) stream.
template <class C>
void global_average_pool(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                         const long long (&multipliers)[C::POSITIONS],
                         hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    const int WORDS = C::CHANNELS / C::LANES;
    enum { BANKS = update_banks(WORDS) };  // an enum: only a pragma uses it
    DCT_MEMORY typename C::sum_t sums[WORDS][C::LANES];
    DCT_HLS(array_partition variable = sums cyclic factor = BANKS dim = 1)
    DCT_HLS(array_reshape variable = sums complete dim = 2)
pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
    words:
        for (int word = 0; word < WORDS; ++word) {
            DCT_HLS(pipeline II = 1)
            DCT_HLS(dependence variable = sums type = inter direction = RAW distance = WORDS true)
            typename C::input_t x[C::LANES];
            unpack(in.read(), x);
            detail::accumulate(pixel == 0, x, sums[word]);
            if (pixel == C::PIXELS - 1) out.write(detail::divide<C>(sums[word], multipliers[0]));
        }
    }
}

}  // namespace dct

#endif
