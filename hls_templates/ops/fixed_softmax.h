// Softmax in the fixed-point arithmetic of quantized models: a table of exponentials with 31
// fraction bits, the reciprocal of their sum by Newton-Raphson, 8 bits out.
#ifndef DCT_OPS_FIXED_SOFTMAX_H
#define DCT_OPS_FIXED_SOFTMAX_H

#include <hls_stream.h>

#include "row_maximum.h"
#include "word.h"

namespace dct {

namespace detail {

typedef ap_int<32> q31;
typedef ap_int<66> q31_wide;

// a * b * 2^-31, half up.
inline q31 q31_product(q31 a, q31 b) {
    DCT_HLS(inline)
    return q31(q31_wide(q31_wide(a * b) + (q31_wide(1) << 30)) >> 31);
}

inline q31 q31_saturate(q31_wide value) {
    DCT_HLS(inline)
    const q31_wide limit = (q31_wide(1) << 31) - 1;
    if (value > limit) return q31(limit);
    if (value < -limit - 1) return q31(-limit - 1);
    return q31(value);
}

// 1 / (1 + a), 31 fraction bits each; STEPS of Newton-Raphson from 48/17 - 32/17 (1 + a) / 2.
template <int STEPS>
q31 q31_reciprocal(q31 a) {
    DCT_HLS(inline)
    const q31 half = q31(q31_wide(q31_wide(a) + (q31_wide(1) << 31)) >> 1);
    q31 x = q31(1515870810) + q31_product(half, q31(-1010580540));
newton_raphson:
    for (int step = 0; step < STEPS; ++step) {
        DCT_HLS(unroll)
        const q31 rest = q31(1 << 29) - q31_product(half, x);
        x = x + q31_saturate(q31_wide(q31_product(x, rest)) << 2);
    }
    return q31_saturate(q31_wide(x) << 1);
}

// Bits of a positive number.
inline int bit_length(ap_uint<32> value) {
    DCT_HLS(inline)
    int length = 0;
highest_bit:
    for (int bit = 0; bit < 32; ++bit) {
        DCT_HLS(unroll)
        if (value[bit] == 1) length = bit + 1;
    }
    return length;
}

// inverse * e * 2^-shift, half away from zero (no operand is negative), at most 255.
template <class OUTPUT>
OUTPUT scaled_exponential(q31 inverse, q31 e, int shift) {
    DCT_HLS(inline)
    const q31_wide p =
        q31_wide(q31_wide(q31_product(inverse, e)) + ((q31_wide(1) << shift) >> 1)) >> shift;
    return p > 255 ? OUTPUT(255) : OUTPUT(p);
}

}  // namespace detail

template <class C, class E>
void fixed_softmax(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                   const E (&exponentials)[C::SIZE],
                   hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef typename C::input_t input;
    typedef detail::q31 q31;
    typedef ap_uint<bits<input>::value> distance_t;
    const int WORDS = C::CHANNELS / C::LANES;
    // Every two lanes need a copy of the table, a memory having two ports.
    DCT_HLS(bind_storage variable = exponentials type = rom_np)

    DCT_MEMORY input values[WORDS][C::LANES];
    DCT_HLS(array_reshape variable = values complete dim = 2)
    DCT_MEMORY q31 powers[WORDS][C::LANES];
    DCT_HLS(array_reshape variable = powers complete dim = 2)

pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
        const input maximum = keep_row<C>(in, values);

        q31 sum = 0;
    exponentiate:
        for (int word = 0; word < WORDS; ++word) {
            DCT_HLS(pipeline II = 1)
            q31 part = 0;
        exponential_lanes:
            for (int lane = 0; lane < C::LANES; ++lane) {
                DCT_HLS(unroll)
                const int distance = distance_t(maximum - values[word][lane]).to_int();
                const q31 e = distance < C::SIZE ? q31(exponentials[distance]) : q31(0);
                powers[word][lane] = e;
                part += q31(detail::q31_wide(detail::q31_wide(e) + (1 << (C::SUM_BITS - 1))) >>
                            C::SUM_BITS);
            }
            sum += part;
        }

        const int length = detail::bit_length(ap_uint<32>(sum));
        const q31 beyond =
            q31((detail::q31_wide(sum) << (32 - length)) - (detail::q31_wide(1) << 31));
        const q31 inverse = detail::q31_reciprocal<C::STEPS>(beyond);
        const int shift = length - (32 - C::SUM_BITS) + 31 - 8;

    scale:
        for (int word = 0; word < WORDS; ++word) {
            DCT_HLS(pipeline II = 1)
            typename C::output_t quotients[C::LANES];
        scale_lanes:
            for (int lane = 0; lane < C::LANES; ++lane) {
                DCT_HLS(unroll)
                quotients[lane] = detail::scaled_exponential<typename C::output_t>(
                    inverse, powers[word][lane], shift);
            }
            out.write(pack(quotients));
        }
    }
}

}  // namespace dct

#endif
