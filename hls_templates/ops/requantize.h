// The one place where a value loses bits: moves the binary point, rounds and overflows exactly as
// the vendor's ap_fixed does, because it is the vendor's ap_fixed that does it.
#ifndef DCT_OPS_REQUANTIZE_H
#define DCT_OPS_REQUANTIZE_H

#include <ap_fixed.h>
#include <hls_stream.h>

#include "loops.h"
#include "word.h"

namespace dct {

namespace detail {

// The integer type of a value as wide as WIDTH, and the fixed-point type of the same bits whose
// binary point lies SHIFT bits higher.
template <class T, int WIDTH, int SHIFT>
struct scaled;

template <int W, int WIDTH, int SHIFT>
struct scaled<ap_int<W>, WIDTH, SHIFT> {
    typedef ap_int<WIDTH> integer;
    typedef ap_fixed<WIDTH, WIDTH - SHIFT> fixed;
};

template <int W, int WIDTH, int SHIFT>
struct scaled<ap_uint<W>, WIDTH, SHIFT> {
    typedef ap_uint<WIDTH> integer;
    typedef ap_ufixed<WIDTH, WIDTH - SHIFT> fixed;
};

template <class C>
typename C::output_t requantize_value(typename C::input_t value, int left) {
    DCT_HLS(inline)
    static_assert(C::fixed_t::width == C::fixed_t::iwidth, "fixed_t must be on the integer grid");
    const int EXACT = bits<typename C::input_t>::value + C::LEFT_MAX;
    // Where all bits are shifted out, the vendor's rounding asks for one beyond the most
    // significant and stops the simulation: a sign-extended value has it.
    const int WIDTH = EXACT > C::SHIFT ? EXACT : C::SHIFT;
    typedef scaled<typename C::input_t, WIDTH, C::SHIFT> scaled;
    typename scaled::fixed exact;
    exact.range(WIDTH - 1, 0) = typename scaled::integer(value) << left;
    const typename C::fixed_t rounded = exact;
    return typename C::output_t(rounded);
}

struct no_left {
    int operator[](int) const { return 0; }
};

template <class C, class LEFT>
void requantize_words(hls::stream<word_t<typename C::input_t, C::LANES> >& in, const LEFT& left,
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
            y[lane] = requantize_value<C>(x[lane], left[position * C::LANES + lane]);
        }
        out.write(pack(y));
        advance<C::PERIOD>(position);
    }
}

}  // namespace detail

// value * 2^-SHIFT
template <class C>
void requantize(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    detail::requantize_words<C>(in, detail::no_left(), out);
}

// value * 2^-(SHIFT - left[channel])
template <class C>
void requantize(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                const unsigned char (&left)[C::PERIOD * C::LANES],
                hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    enum { LANES = C::LANES };  // only a pragma uses it
    DCT_HLS(array_reshape variable = left cyclic factor = LANES)
    detail::requantize_words<C>(in, left, out);
}

}  // namespace dct

#endif
