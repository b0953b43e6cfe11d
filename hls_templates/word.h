// Stream words: LANES elements side by side in a plain signed ap_int, element i in the bits
// [i * BITS, (i + 1) * BITS) as its raw pattern.
#ifndef DCT_WORD_H
#define DCT_WORD_H

// The headers' default limit of 1024 bits is less than what intermediate values of wide words may
// take; 4096 is the most that Vitis HLS accepts (UG1399).
#ifndef AP_INT_MAX_W
#define AP_INT_MAX_W 4096
#endif
#include <ap_int.h>

#include "pragmas.h"

namespace dct {

template <class T>
struct bits {
    static const int value = T::width;
};

template <class T, int LANES>
using word_t = ap_int<LANES * bits<T>::value>;

namespace detail {

enum class access { native, limbs, range };

// range() of the simulation types copies the whole word at each call: 20 to 50 times slower on a
// word of 1024 bits than going to its 64-bit limbs.
template <int WIDTH, int N>
constexpr access access_of() {
#if defined(__AP_PRIVATE_H__) && !defined(__SYNTHESIS__)
    return N <= 64 ? access::native : WIDTH <= 64 ? access::limbs : access::range;
#else
    return N <= 64 ? access::native : access::range;
#endif
}

template <access>
struct lane;

template <>
struct lane<access::native> {
    template <class T, int N>
    static T get(const ap_int<N>& word, int low) {
        DCT_HLS(inline)
        return T(word.to_uint64() >> low);
    }
    template <class T, int N>
    static void set(ap_int<N>& word, int low, T value) {
        DCT_HLS(inline)
        const unsigned long long mask = (~0ULL >> (64 - bits<T>::value)) << low;
        const unsigned long long moved = static_cast<unsigned long long>(value.to_uint64()) << low;
        word = (word.to_uint64() & ~mask) | (moved & mask);
    }
};

template <>
struct lane<access::range> {
    template <class T, int N>
    static T get(const ap_int<N>& word, int low) {
        DCT_HLS(inline)
        return T(word.range(low + bits<T>::value - 1, low));
    }
    template <class T, int N>
    static void set(ap_int<N>& word, int low, T value) {
        DCT_HLS(inline)
        word.range(low + bits<T>::value - 1, low) = value;
    }
};

template <>
struct lane<access::limbs> {
    template <class T, int N>
    static T get(const ap_int<N>& word, int low) {
        const int limb = low / 64, shift = low % 64;
        unsigned long long raw = word.V.get_pVal(limb) >> shift;
        if (shift + bits<T>::value > 64) raw |= word.V.get_pVal(limb + 1) << (64 - shift);
        return T(raw);
    }
    template <class T, int N>
    static void set(ap_int<N>& word, int low, T value) {
        const unsigned long long mask = ~0ULL >> (64 - bits<T>::value);
        const unsigned long long raw = value.to_uint64() & mask;
        const int limb = low / 64, shift = low % 64;
        merge(word, limb, mask << shift, raw << shift);
        if (shift + bits<T>::value > 64)
            merge(word, limb + 1, mask >> (64 - shift), raw >> (64 - shift));
    }

  private:
    template <int N>
    static void merge(ap_int<N>& word, int limb, unsigned long long mask, unsigned long long raw) {
        long long merged = (word.V.get_pVal(limb) & ~mask) | raw;
        // The types keep the last limb sign-extended.
        const int unused = (64 - N % 64) % 64;
        if (limb == N / 64)
            merged =
                static_cast<long long>(static_cast<unsigned long long>(merged) << unused) >> unused;
        word.V.get_pVal(limb) = merged;
    }
};

}  // namespace detail

template <class T, int N>
T get_lane(const ap_int<N>& word, int lane) {
    DCT_HLS(inline)
    const int width = bits<T>::value;
    return detail::lane<detail::access_of<width, N>()>::template get<T>(word, lane * width);
}

template <class T, int N>
void set_lane(ap_int<N>& word, int lane, T value) {
    DCT_HLS(inline)
    const int width = bits<T>::value;
    detail::lane<detail::access_of<width, N>()>::set(word, lane * width, value);
}

template <class T, int LANES>
void unpack(const word_t<T, LANES>& word, T (&values)[LANES]) {
    DCT_HLS(inline)
unpack_lanes:
    for (int lane = 0; lane < LANES; ++lane) {
        DCT_HLS(unroll)
        values[lane] = get_lane<T>(word, lane);
    }
}

template <class T, int LANES>
word_t<T, LANES> pack(const T (&values)[LANES]) {
    DCT_HLS(inline)
    word_t<T, LANES> word = 0;
pack_lanes:
    for (int lane = 0; lane < LANES; ++lane) {
        DCT_HLS(unroll)
        set_lane(word, lane, values[lane]);
    }
    return word;
}

// Lane `lane` of a word, not known before run time: a multiplexer, no shifter of the whole word.
template <class T, int LANES>
T select_lane(const word_t<T, LANES>& word, int lane) {
    DCT_HLS(inline)
#ifdef __SYNTHESIS__
    T values[LANES];
    DCT_HLS(array_partition variable = values complete)
    unpack(word, values);
    return values[lane];
#else
    return get_lane<T>(word, lane);
#endif
}

// A word whose lanes all hold the same value.
template <class T, int LANES>
word_t<T, LANES> splat(T value) {
    DCT_HLS(inline)
    word_t<T, LANES> word = 0;
splat_lanes:
    for (int lane = 0; lane < LANES; ++lane) {
        DCT_HLS(unroll)
        set_lane(word, lane, value);
    }
    return word;
}

}  // namespace dct

#endif
