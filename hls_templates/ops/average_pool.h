// Average pooling: an exact sum, times a reciprocal wide enough that the result is the rounded
// quotient for every sum in range (the compiler proves it).
#ifndef DCT_OPS_AVERAGE_POOL_H
#define DCT_OPS_AVERAGE_POOL_H

#include <hls_stream.h>

#include "loops.h"
#include "word.h"

namespace dct {

namespace detail {

// No half goes down.
struct no_ties {
    template <class S>
    bool operator()(int, S) const {
        return false;
    }
};

// Halves of sums below a limit go down: where there can be one, 1 less than the sum rounds so.
template <class B, int POSITIONS>
struct ties_below {
    const B (&limits)[POSITIONS];
    explicit ties_below(const B (&given)[POSITIONS]) : limits(given) {}
    template <class S>
    bool operator()(int position, S sum) const {
        return sum < S(limits[position]);
    }
};

// (sum * multiplier + ROUND) >> ROUND_SHIFT in every lane. ROUND is half of 2^ROUND_SHIFT and a bit
// more where sums can be negative, since the multiplier is rounded up.
template <class C, class TIES>
word_t<typename C::output_t, C::LANES> divide(const typename C::sum_t (&sums)[C::LANES],
                                              long long multiplier, int position,
                                              const TIES& ties) {
    DCT_HLS(inline)
    typedef typename C::product_t product;
    const product half = product(C::ROUND);
    typename C::output_t quotients[C::LANES];
divide_lanes:
    for (int lane = 0; lane < C::LANES; ++lane) {
        DCT_HLS(unroll)
        const product sum = product(sums[lane]) - product(ties(position, sums[lane]) ? 1 : 0);
        const product scaled = sum * product(multiplier);
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

template <class C, class TIES>
void average_pool_words(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                        const long long (&multipliers)[C::POSITIONS], const TIES& ties,
                        hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    DCT_HLS(inline)
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
                accumulate(tap == 0, x, sums);
                const int position = C::POSITIONS > 1 ? pixel : 0;
                if (tap == C::TAPS - 1)
                    out.write(divide<C>(sums, multipliers[position], position, ties));
            }
        }
    }
}

template <class C, class TIES>
void global_average_pool_words(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                               const long long (&multipliers)[C::POSITIONS], const TIES& ties,
                               hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    DCT_HLS(inline)
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
            accumulate(pixel == 0, x, sums[word]);
            if (pixel == C::PIXELS - 1) out.write(divide<C>(sums[word], multipliers[0], 0, ties));
        }
    }
}

}  // namespace detail

// Over the TAPS words of each pixel and block of LANES channels. Windows that hang over the border
// may have a multiplier of their own: POSITIONS is 1 or PIXELS.
template <class C>
void average_pool(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                  const long long (&multipliers)[C::POSITIONS],
                  hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    detail::average_pool_words<C>(in, multipliers, detail::no_ties(), out);
}

// The same with halves of sums below a limit rounded down.
template <class C, class B>
void average_pool(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                  const long long (&multipliers)[C::POSITIONS], const B (&below)[C::POSITIONS],
                  hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    const detail::ties_below<B, C::POSITIONS> ties(below);
    detail::average_pool_words<C>(in, multipliers, ties, out);
}

// Over the pixels of a (PIXELS, CHANNELS) stream.
template <class C>
void global_average_pool(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                         const long long (&multipliers)[C::POSITIONS],
                         hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    detail::global_average_pool_words<C>(in, multipliers, detail::no_ties(), out);
}

template <class C, class B>
void global_average_pool(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                         const long long (&multipliers)[C::POSITIONS],
                         const B (&below)[C::POSITIONS],
                         hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    const detail::ties_below<B, C::POSITIONS> ties(below);
    detail::global_average_pool_words<C>(in, multipliers, ties, out);
}

}  // namespace dct

#endif
