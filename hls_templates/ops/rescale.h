// Requantize by a multiplier and a shift: value * 2^left * multiplier * 2^-(31 + right), rounded,
// plus an offset, between two limits.
#ifndef DCT_OPS_RESCALE_H
#define DCT_OPS_RESCALE_H

#include <hls_stream.h>

#include "loops.h"
#include "word.h"

namespace dct {

namespace detail {

enum { ROUNDING_DOUBLE = 0, ROUNDING_SINGLE = 1, ROUNDING_HALF_EVEN = 2 };

// wide_t holds the product, the half that is added to it, and the limits.
template <class C>
typename C::output_t rescale_value(typename C::input_t value, int multiplier, int left, int right) {
    DCT_HLS(inline)
    typedef typename C::wide_t wide;
    // Shifted behind the multiplier, which is the narrower for it.
    const wide product = wide(typename C::signed_t(value) * ap_int<32>(multiplier)) << left;
    wide y;
    if (C::ROUNDING == ROUNDING_DOUBLE) {
        // Half up first, then half away from zero.
        const wide high = wide(product + (wide(1) << 30)) >> 31;
        const wide half = wide(wide(1) << right) >> 1;
        const wide away = right > 0 && high < 0 ? 1 : 0;
        y = wide(high + half - away) >> right;
    } else {
        const wide unit = wide(1) << (31 + right);
        const wide floor = product >> (31 + right);
        const wide rest = product - wide(floor << (31 + right));
        const wide twice = rest << 1;
        const bool odd = floor[0] == 1;
        const bool tie_up = C::ROUNDING == ROUNDING_SINGLE || odd;
        y = floor + wide(twice > unit || (twice == unit && tie_up) ? 1 : 0);
    }
    y = y + wide(C::OFFSET);
    if (y < wide(C::LOW)) y = C::LOW;
    if (y > wide(C::HIGH)) y = C::HIGH;
    return typename C::output_t(y);
}

// The same for every entry.
struct one_value {
    int value;
    int operator[](int) const { return value; }
};

template <class C, class M, class L, class R>
void rescale_words(hls::stream<word_t<typename C::input_t, C::LANES> >& in, const M& multipliers,
                   const L& left, const R& right,
                   hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    DCT_HLS(inline)
    int position = 0;
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        typename C::input_t x[C::LANES];
        unpack(in.read(), x);
        typename C::output_t y[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            const int channel = position * C::LANES + lane;
            y[lane] =
                rescale_value<C>(x[lane], multipliers[channel], left[channel], right[channel]);
        }
        out.write(pack(y));
        advance<C::PERIOD>(position);
    }
}

}  // namespace detail

// One multiplier for the tensor: constants of the design.
template <class C>
void rescale(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
             hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    const detail::one_value multiplier = {C::MULTIPLIER}, left = {C::LEFT}, right = {C::RIGHT};
    detail::rescale_words<C>(in, multiplier, left, right, out);
}

// One for each entry of the last axis.
template <class C, class M, class L, class R>
void rescale(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
             const M (&multipliers)[C::PERIOD * C::LANES], const L (&left)[C::PERIOD * C::LANES],
             const R (&right)[C::PERIOD * C::LANES],
             hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    enum { LANES = C::LANES };  // only a pragma uses it
    DCT_HLS(array_reshape variable = multipliers cyclic factor = LANES)
    DCT_HLS(array_reshape variable = left cyclic factor = LANES)
    DCT_HLS(array_reshape variable = right cyclic factor = LANES)
    detail::rescale_words<C>(in, multipliers, left, right, out);
}

}  // namespace dct

#endif
