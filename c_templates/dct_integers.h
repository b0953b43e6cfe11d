/* The arithmetic of the integer program: shifts with every rounding of ap_fixed, its overflow
 * modes, and what softmax and average pooling want. C99, no state.
 *
 * Each function exists for 32 and for 64 bits. The generated code takes the narrower one where the
 * compiler proved that no intermediate leaves it. A shift of s moves the binary point s bits to the
 * right; negative ones lose nothing. */
#ifndef DCT_INTEGERS_H
#define DCT_INTEGERS_H

#include <stdint.h>

#if (-1 >> 1) != -1
#error "the right shift of a negative integer has to be arithmetic"
#endif

#define DCT_DEFINE_SHIFT(MODE, BITS, INT)                                         \
    static inline INT dct_##MODE##_##BITS(INT x, int32_t s) {                     \
        return s <= 0 ? dct_left_##BITS(x, -s) : dct_right_##MODE##_##BITS(x, s); \
    }

#define DCT_DEFINE_INTEGERS(BITS, INT, UINT)                                                      \
    static inline INT dct_left_##BITS(INT x, int32_t s) { return (INT)((UINT)x << s); }           \
    static inline INT dct_half_##BITS(int32_t s) { return (INT)(((UINT)1 << s) >> 1); }           \
    static inline INT dct_min_##BITS(INT a, INT b) { return a < b ? a : b; }                      \
    static inline INT dct_max_##BITS(INT a, INT b) { return a > b ? a : b; }                      \
    static inline INT dct_clamp_##BITS(INT x, INT low, INT high) {                                \
        return x < low ? low : (x > high ? high : x);                                             \
    }                                                                                             \
    /* Overflow to 0. */                                                                          \
    static inline INT dct_zero_##BITS(INT x, INT low, INT high) {                                 \
        return (x < low || x > high) ? 0 : x;                                                     \
    }                                                                                             \
    /* The low bits, read as a signed or an unsigned number. */                                   \
    static inline INT dct_wrap_##BITS(INT x, int32_t width) {                                     \
        const UINT sign = (UINT)1 << (width - 1), mask = sign | (sign - 1U);                      \
        const UINT bits = (UINT)x & mask;                                                         \
        return bits < sign ? (INT)bits : -(INT)(~bits & mask) - 1;                                \
    }                                                                                             \
    static inline INT dct_wrap_unsigned_##BITS(INT x, int32_t width) {                            \
        return (INT)((UINT)x & (UINT)(((UINT)1 << width) - 1U));                                  \
    }                                                                                             \
    /* AP_WRAP_SM: inverted where the deleted bit, before rounding, is not the sign that is left. \
     */                                                                                           \
    static inline INT dct_wrap_sm_##BITS(INT x, INT truncated, int32_t width) {                   \
        const INT wrapped = dct_wrap_##BITS(x, width);                                            \
        const int deleted = width < BITS ? ((truncated >> width) & 1) != 0 : truncated < 0;       \
        return (wrapped != x && deleted != (wrapped < 0)) ? (INT)~wrapped : wrapped;              \
    }                                                                                             \
    /* Shifts to the right, by 1 or more. */                                                      \
    static inline INT dct_right_trn_##BITS(INT x, int32_t s) { return x >> s; }                   \
    static inline INT dct_right_trn_zero_##BITS(INT x, int32_t s) {                               \
        return (x < 0 ? x + (INT)(((UINT)1 << s) - 1U) : x) >> s;                                 \
    }                                                                                             \
    static inline INT dct_right_rnd_##BITS(INT x, int32_t s) {                                    \
        return (x + dct_half_##BITS(s)) >> s;                                                     \
    }                                                                                             \
    static inline INT dct_right_rnd_min_inf_##BITS(INT x, int32_t s) {                            \
        return (x + (dct_half_##BITS(s) - 1)) >> s;                                               \
    }                                                                                             \
    static inline INT dct_right_rnd_zero_##BITS(INT x, int32_t s) {                               \
        return x < 0 ? dct_right_rnd_##BITS(x, s) : dct_right_rnd_min_inf_##BITS(x, s);           \
    }                                                                                             \
    static inline INT dct_right_rnd_inf_##BITS(INT x, int32_t s) {                                \
        return x < 0 ? dct_right_rnd_min_inf_##BITS(x, s) : dct_right_rnd_##BITS(x, s);           \
    }                                                                                             \
    static inline INT dct_right_rnd_conv_##BITS(INT x, int32_t s) {                               \
        return (x + (dct_half_##BITS(s) - 1) + ((x >> s) & 1)) >> s;                              \
    }                                                                                             \
    /* Shifts by any number. */                                                                   \
    DCT_DEFINE_SHIFT(trn, BITS, INT)                                                              \
    DCT_DEFINE_SHIFT(trn_zero, BITS, INT)                                                         \
    DCT_DEFINE_SHIFT(rnd, BITS, INT)                                                              \
    DCT_DEFINE_SHIFT(rnd_min_inf, BITS, INT)                                                      \
    DCT_DEFINE_SHIFT(rnd_zero, BITS, INT)                                                         \
    DCT_DEFINE_SHIFT(rnd_inf, BITS, INT)                                                          \
    DCT_DEFINE_SHIFT(rnd_conv, BITS, INT)                                                         \
    /* floor(a / b) for b > 0. */                                                                 \
    static inline INT dct_divide_##BITS(INT a, INT b) {                                           \
        const INT quotient = a / b;                                                               \
        return (a < 0 && quotient * b != a) ? quotient - 1 : quotient;                            \
    }

DCT_DEFINE_INTEGERS(32, int32_t, uint32_t)
DCT_DEFINE_INTEGERS(64, int64_t, uint64_t)

/* The entry of an exponential's table for a distance from the largest value. */
static inline int64_t dct_softmax_index(int64_t distance, int32_t shift, int64_t last) {
    return dct_min_64(dct_rnd_64(distance, shift), last);
}

/* a * b * 2^-31, half up. */
static inline int64_t dct_product_q31(int64_t a, int64_t b) {
    return (a * b + ((int64_t)1 << 30)) >> 31;
}

static inline int64_t dct_saturate_q31(int64_t x) { return dct_clamp_64(x, INT32_MIN, INT32_MAX); }

/* Bits of a positive number. */
static inline int32_t dct_length(uint64_t x) {
    int32_t bits = 0;
    for (; x != 0U; x >>= 1) ++bits;
    return bits;
}

/* 1 / (1 + a) for a in [0, 1), 31 fraction bits each: Newton-Raphson as gemmlowp has it. */
static inline int64_t dct_reciprocal_q31(int64_t a) {
    const int64_t half = (a + INT32_MAX + 1) >> 1;
    int64_t x = INT64_C(1515870810) + dct_product_q31(half, INT64_C(-1010580540));
    int32_t step;
    for (step = 0; step < 3; ++step) {
        const int64_t rest = ((int64_t)1 << 29) - dct_product_q31(half, x);
        x += dct_saturate_q31(dct_left_64(dct_product_q31(x, rest), 2));
    }
    return dct_saturate_q31(dct_left_64(x, 1));
}

#endif
