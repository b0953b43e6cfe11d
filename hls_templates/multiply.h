// Exact products, alone and two in one DSP slice.
#ifndef DCT_MULTIPLY_H
#define DCT_MULTIPLY_H

#include "word.h"

namespace dct {

// The exact product. Formed in place: the vendor's widening operator* takes twice the time in C
// simulation.
template <class A, class B>
ap_int<bits<A>::value + bits<B>::value + 1> multiply(A a, B b) {
    DCT_HLS(inline)
    ap_int<bits<A>::value + bits<B>::value + 1> product = a;
    product *= b;
    return product;
}

namespace detail {

template <class T>
struct is_signed_integer {
    static const bool value = false;
};

template <int WIDTH>
struct is_signed_integer<ap_int<WIDTH> > {
    static const bool value = true;
};

}  // namespace detail

// How products are made: each as the tool likes, two in one DSP slice, or in LUTs.
enum multiplier_kind { MULTIPLIER_FREE = 0, MULTIPLIER_PAIR = 1, MULTIPLIER_FABRIC = 2 };

template <int KIND>
struct multiplier;

template <>
struct multiplier<MULTIPLIER_FREE> {
    template <class A, class C, class P>
    static void one(A a, C common, P& product) {
        DCT_HLS(inline)
        product = multiply(a, common);
    }
    template <class A, class C, class P>
    static void pair(A first, A second, C common, P& a, P& b) {
        DCT_HLS(inline)
        a = multiply(first, common);
        b = multiply(second, common);
    }
};

// One multiplier of 25 x 18 bits, a DSP48E1 and whatever came after it (Fu et al., WP486), gives
// (first * 2^S + second) * common, S the bits of a product. The lower S bits are the second
// product; if it is negative it has borrowed one from the first. Sums are made outside of the
// slice.
template <>
struct multiplier<MULTIPLIER_PAIR> : multiplier<MULTIPLIER_FREE> {
    template <class A, class C, class P>
    static void pair(A first, A second, C common, P& a, P& b) {
        DCT_HLS(inline)
        const int SPACING = bits<A>::value + bits<C>::value;
        const int PACKED = bits<A>::value + SPACING + 1;
        static_assert(detail::is_signed_integer<A>::value || detail::is_signed_integer<C>::value,
                      "a product of SPACING bits is signed");
        static_assert(PACKED <= 25 && bits<C>::value + !detail::is_signed_integer<C>::value <= 18,
                      "wider than the ports of a DSP48E1");
        ap_int<PACKED> packed = first;
        packed <<= SPACING;
        packed += second;
        const ap_int<PACKED + bits<C>::value + 1> product = packed * common;
        DCT_HLS(bind_op variable = product op = mul impl = dsp)
        const ap_int<SPACING> low = product;
        a = product >> SPACING;
        if (low < 0) ++a;
        b = low;
    }
};

template <>
struct multiplier<MULTIPLIER_FABRIC> {
    template <class A, class C, class P>
    static void one(A a, C common, P& result) {
        DCT_HLS(inline)
        const ap_int<bits<A>::value + bits<C>::value + 1> product = a * common;
        DCT_HLS(bind_op variable = product op = mul impl = fabric)
        result = product;
    }
    template <class A, class C, class P>
    static void pair(A first, A second, C common, P& a, P& b) {
        DCT_HLS(inline)
        one(first, common, a);
        one(second, common, b);
    }
};

}  // namespace dct

#endif
