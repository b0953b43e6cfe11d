/* What the layers of a model are made of: dot products, windows, moves. C99, no state.
 *
 * A tuned dot product stands beside each portable one, chosen by what the compiler says about the
 * processor; all give the same integers, because the sum is exact in every order. */
#ifndef DCT_KERNELS_H
#define DCT_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Not every model needs all kernels of a pair of types. */
#if defined(__GNUC__)
#define DCT_INLINE static inline __attribute__((unused))
#else
#define DCT_INLINE static inline
#endif

/* NAME: the sum of x[k] * w[k]. NAME_pair: the same for two rows of weights at once. */
#define DCT_DEFINE_DOT(NAME, X, W, SUM)                                                         \
    DCT_INLINE SUM NAME(const X* x, const W* w, int32_t count) {                                \
        SUM sum = 0;                                                                            \
        int32_t k;                                                                              \
        for (k = 0; k < count; ++k) sum += (SUM)x[k] * (SUM)w[k];                               \
        return sum;                                                                             \
    }                                                                                           \
    DCT_INLINE void NAME##_pair(const X* x, const W* w, const W* v, int32_t count, SUM* sums) { \
        sums[0] = NAME(x, w, count);                                                            \
        sums[1] = NAME(x, v, count);                                                            \
    }

/* NAME_tile: two vectors times two rows of weights, x w, x v, y w, y v. It may take the vectors
 * from `room`, 4 bytes for each term, where NAME_join has put them in a form that suits it. */
#define DCT_DEFINE_JOIN(NAME, X)                                                        \
    DCT_INLINE void NAME##_join(const X* x, const X* y, int32_t count, int32_t* room) { \
        (void)x, (void)y, (void)count, (void)room;                                      \
    }
#if defined(__riscv) && !defined(__riscv_vector) && !defined(DCT_PORTABLE)
/* Enough registers for all of a tile. */
#define DCT_DEFINE_TILE(NAME, X, W, SUM)                                                 \
    DCT_DEFINE_JOIN(NAME, X)                                                             \
    DCT_INLINE void NAME##_tile(const X* x, const X* y, const int32_t* room, const W* w, \
                                const W* v, int32_t count, SUM* sums) {                  \
        SUM xw = 0, xv = 0, yw = 0, yv = 0;                                              \
        const X* const end = x + count;                                                  \
        (void)room;                                                                      \
        for (; x < end; ++x, ++y, ++w, ++v) {                                            \
            xw += (SUM)x[0] * (SUM)w[0];                                                 \
            xv += (SUM)x[0] * (SUM)v[0];                                                 \
            yw += (SUM)y[0] * (SUM)w[0];                                                 \
            yv += (SUM)y[0] * (SUM)v[0];                                                 \
        }                                                                                \
        sums[0] = xw;                                                                    \
        sums[1] = xv;                                                                    \
        sums[2] = yw;                                                                    \
        sums[3] = yv;                                                                    \
    }
#else
#define DCT_DEFINE_TILE(NAME, X, W, SUM)                                                 \
    DCT_DEFINE_JOIN(NAME, X)                                                             \
    DCT_INLINE void NAME##_tile(const X* x, const X* y, const int32_t* room, const W* w, \
                                const W* v, int32_t count, SUM* sums) {                  \
        (void)room;                                                                      \
        NAME##_pair(x, w, v, count, sums);                                               \
        NAME##_pair(y, w, v, count, sums + 2);                                           \
    }
#endif

/* NAME_four: four neighbouring channels of a depthwise convolution, whose taps lie `depth` apart.
 */
#define DCT_DEFINE_FOUR(NAME, X, W, SUM)                                                          \
    DCT_INLINE void NAME##_four(const X* x, const W* w, int32_t depth, int32_t taps, SUM* sums) { \
        SUM a = 0, b = 0, c = 0, d = 0;                                                           \
        for (; taps > 0; --taps, x += depth, w += depth) {                                        \
            a += (SUM)x[0] * (SUM)w[0];                                                           \
            b += (SUM)x[1] * (SUM)w[1];                                                           \
            c += (SUM)x[2] * (SUM)w[2];                                                           \
            d += (SUM)x[3] * (SUM)w[3];                                                           \
        }                                                                                         \
        sums[0] = a;                                                                              \
        sums[1] = b;                                                                              \
        sums[2] = c;                                                                              \
        sums[3] = d;                                                                              \
    }

/* Nonzero weights as place << 16 | weight, and the sum over them. */
static inline int32_t dct_nonzeros(const int32_t* row, int32_t count, int32_t* entries) {
    int32_t k, found = 0;
    for (k = 0; k < count; ++k)
        if (row[k] != 0)
            entries[found++] = (int32_t)(((uint32_t)k << 16) | ((uint32_t)row[k] & 0xFFFFU));
    return found;
}

#define DCT_DEFINE_SPARSE(NAME, X, SUM)                                                          \
    static inline SUM NAME(const X* x, const int32_t* entries, int32_t count) {                  \
        const int32_t* const end = entries + count;                                              \
        SUM sum = 0;                                                                             \
        for (; entries < end; ++entries) sum += (SUM)x[*entries >> 16] * (SUM)(int16_t)*entries; \
        return sum;                                                                              \
    }

#define DCT_DEFINE_KERNELS(NAME, X, W, SUM) \
    DCT_DEFINE_DOT(NAME, X, W, SUM)         \
    DCT_DEFINE_TILE(NAME, X, W, SUM)        \
    DCT_DEFINE_FOUR(NAME, X, W, SUM)

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1) && !defined(DCT_PORTABLE)
#include <arm_mve.h>

/* Helium: the loads widen where the types differ, the last vector is cut off by a predicate. */
#define DCT_DEFINE_DOT_MVE(NAME, X, W, LANES, LOAD_X, LOAD_W, MULTIPLY, VCTP)               \
    static inline int32_t NAME(const X* x, const W* w, int32_t count) {                     \
        int32_t sum = 0;                                                                    \
        for (; count > 0; count -= LANES, x += LANES, w += LANES) {                         \
            const mve_pred16_t inside = VCTP((uint32_t)count);                              \
            sum = MULTIPLY(sum, LOAD_X(x, inside), LOAD_W(w, inside), inside);              \
        }                                                                                   \
        return sum;                                                                         \
    }                                                                                       \
    static inline void NAME##_pair(const X* x, const W* w, const W* v, int32_t count,       \
                                   int32_t* sums) {                                         \
        int32_t first = 0, second = 0;                                                      \
        for (; count > 0; count -= LANES, x += LANES, w += LANES, v += LANES) {             \
            const mve_pred16_t inside = VCTP((uint32_t)count);                              \
            const DCT_MVE_##LANES values = (DCT_MVE_##LANES)LOAD_X(x, inside);              \
            first = MULTIPLY(first, values, LOAD_W(w, inside), inside);                     \
            second = MULTIPLY(second, values, LOAD_W(v, inside), inside);                   \
        }                                                                                   \
        sums[0] = first;                                                                    \
        sums[1] = second;                                                                   \
    }                                                                                       \
    static inline void NAME##_tile(const X* x, const X* y, const int32_t* room, const W* w, \
                                   const W* v, int32_t count, int32_t* sums) {              \
        int32_t xw = 0, xv = 0, yw = 0, yv = 0;                                             \
        (void)room;                                                                         \
        for (; count > 0; count -= LANES, x += LANES, y += LANES, w += LANES, v += LANES) { \
            const mve_pred16_t inside = VCTP((uint32_t)count);                              \
            const DCT_MVE_##LANES xs = LOAD_X(x, inside), ys = LOAD_X(y, inside);           \
            const DCT_MVE_##LANES ws = LOAD_W(w, inside), vs = LOAD_W(v, inside);           \
            xw = MULTIPLY(xw, xs, ws, inside);                                              \
            xv = MULTIPLY(xv, xs, vs, inside);                                              \
            yw = MULTIPLY(yw, ys, ws, inside);                                              \
            yv = MULTIPLY(yv, ys, vs, inside);                                              \
        }                                                                                   \
        sums[0] = xw;                                                                       \
        sums[1] = xv;                                                                       \
        sums[2] = yw;                                                                       \
        sums[3] = yv;                                                                       \
    }                                                                                       \
    DCT_DEFINE_JOIN(NAME, X)

#define DCT_DEFINE_FOUR_MVE(NAME, X, W, FOUR_X, FOUR_W)                                 \
    static inline void NAME##_four(const X* x, const W* w, int32_t depth, int32_t taps, \
                                   int32_t* sums) {                                     \
        int32x4_t sum = vdupq_n_s32(0);                                                 \
        for (; taps > 0; --taps, x += depth, w += depth)                                \
            sum = vaddq_s32(sum, vmulq_s32(FOUR_X(x), FOUR_W(w)));                      \
        vst1q_s32(sums, sum);                                                           \
    }
#define DCT_MVE_16 int8x16_t
#define DCT_MVE_8 int16x8_t
#define DCT_LOAD_U8(x, inside) vreinterpretq_s16_u16(vldrbq_z_u16(x, inside))
#define DCT_FOUR_U8(x) vreinterpretq_s32_u32(vldrbq_u32(x))

#define DCT_TUNED_s8_s8_32
DCT_DEFINE_DOT_MVE(dct_dot_s8_s8_32, int8_t, int8_t, 16, vldrbq_z_s8, vldrbq_z_s8, vmladavaq_p_s8,
                   vctp8q)
DCT_DEFINE_FOUR_MVE(dct_dot_s8_s8_32, int8_t, int8_t, vldrbq_s32, vldrbq_s32)
#define DCT_TUNED_u8_s8_32
DCT_DEFINE_DOT_MVE(dct_dot_u8_s8_32, uint8_t, int8_t, 8, DCT_LOAD_U8, vldrbq_z_s16, vmladavaq_p_s16,
                   vctp16q)
DCT_DEFINE_FOUR_MVE(dct_dot_u8_s8_32, uint8_t, int8_t, DCT_FOUR_U8, vldrbq_s32)
#define DCT_TUNED_s16_s8_32
DCT_DEFINE_DOT_MVE(dct_dot_s16_s8_32, int16_t, int8_t, 8, vldrhq_z_s16, vldrbq_z_s16,
                   vmladavaq_p_s16, vctp16q)
DCT_DEFINE_FOUR_MVE(dct_dot_s16_s8_32, int16_t, int8_t, vldrhq_s32, vldrbq_s32)
#define DCT_TUNED_s16_s16_32
DCT_DEFINE_DOT_MVE(dct_dot_s16_s16_32, int16_t, int16_t, 8, vldrhq_z_s16, vldrhq_z_s16,
                   vmladavaq_p_s16, vctp16q)
DCT_DEFINE_FOUR_MVE(dct_dot_s16_s16_32, int16_t, int16_t, vldrhq_s32, vldrhq_s32)

#elif defined(__ARM_FEATURE_DSP) && !defined(DCT_PORTABLE)
#include <arm_acle.h>

static inline uint32_t dct_word(const void* bytes) {
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* The elements 1 and 3 of four: one instruction, which compilers do not find. */
static inline int16x2_t dct_odd_s8(uint32_t word) {
    int16x2_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}
static inline int16x2_t dct_odd_u8(uint32_t word) {
    int16x2_t pair;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}

/* The lower and the upper halves of two words. */
static inline int16x2_t dct_lower(uint32_t a, uint32_t b) {
    int16x2_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
}
static inline int16x2_t dct_upper(uint32_t a, uint32_t b) {
    int16x2_t pair;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(pair) : "r"(b), "r"(a));
    return pair;
}

/* Four elements as two pairs of 16 bits: (0, 2) and (1, 3). */
#define DCT_PAIRS_s8(X, even, odd)                          \
    const int16x2_t even = __sxtb16((int8x4_t)dct_word(X)); \
    const int16x2_t odd = dct_odd_s8(dct_word(X))
#define DCT_PAIRS_u8(X, even, odd)                                      \
    const int16x2_t even = (int16x2_t)__uxtb16((uint8x4_t)dct_word(X)); \
    const int16x2_t odd = dct_odd_u8(dct_word(X))
#define DCT_PAIRS_s16(X, even, odd)                                        \
    const uint32_t even##_01 = dct_word(X), even##_23 = dct_word((X) + 2); \
    const int16x2_t even = dct_lower(even##_01, even##_23);                \
    const int16x2_t odd = dct_upper(even##_01, even##_23)

/* SMLAD: two products of 16 bits and a sum, of which the compiler proved that it does not overflow.
 */
#define DCT_DEFINE_DOT_DSP(NAME, X, W, PAIRS_X, PAIRS_W)                                          \
    static inline int32_t NAME(const X* x, const W* w, int32_t count) {                           \
        int32_t sum = 0;                                                                          \
        for (; count >= 4; count -= 4, x += 4, w += 4) {                                          \
            PAIRS_X(x, x_even, x_odd);                                                            \
            PAIRS_W(w, w_even, w_odd);                                                            \
            sum = __smlad(x_even, w_even, sum);                                                   \
            sum = __smlad(x_odd, w_odd, sum);                                                     \
        }                                                                                         \
        for (; count > 0; --count) sum += (int32_t)*x++ * (int32_t)*w++;                          \
        return sum;                                                                               \
    }                                                                                             \
    /* Not inline: its loop needs all registers. */ static __attribute__((noinline, unused)) void \
    NAME##_pair(const X* x, const W* w, const W* v, int32_t count, int32_t* sums) {               \
        int32_t first = 0, second = 0;                                                            \
        for (; count >= 4; count -= 4, x += 4, w += 4, v += 4) {                                  \
            PAIRS_X(x, x_even, x_odd);                                                            \
            PAIRS_W(w, w_even, w_odd);                                                            \
            PAIRS_W(v, v_even, v_odd);                                                            \
            first = __smlad(x_even, w_even, first);                                               \
            second = __smlad(x_even, v_even, second);                                             \
            first = __smlad(x_odd, w_odd, first);                                                 \
            second = __smlad(x_odd, v_odd, second);                                               \
        }                                                                                         \
        for (; count > 0; --count, ++x, ++w, ++v) {                                               \
            first += (int32_t)*x * (int32_t)*w;                                                   \
            second += (int32_t)*x * (int32_t)*v;                                                  \
        }                                                                                         \
        sums[0] = first;                                                                          \
        sums[1] = second;                                                                         \
    }

#define DCT_DEFINE_TILE_DSP(NAME, X, W, PAIRS_X, PAIRS_W)                                     \
    static __attribute__((noinline, unused)) void NAME##_join(const X* x, const X* y,         \
                                                              int32_t count, int32_t* room) { \
        for (; count >= 4; count -= 4, x += 4, y += 4, room += 4) {                           \
            PAIRS_X(x, x_even, x_odd);                                                        \
            PAIRS_X(y, y_even, y_odd);                                                        \
            room[0] = (int32_t)x_even;                                                        \
            room[1] = (int32_t)y_even;                                                        \
            room[2] = (int32_t)x_odd;                                                         \
            room[3] = (int32_t)y_odd;                                                         \
        }                                                                                     \
    }                                                                                         \
    static __attribute__((noinline, unused)) void NAME##_tile(                                \
        const X* x, const X* y, const int32_t* room, const W* w, const W* v, int32_t count,   \
        int32_t* sums) {                                                                      \
        int32_t xw = 0, xv = 0, yw = 0, yv = 0;                                               \
        const int32_t whole = count & ~3;                                                     \
        const int32_t* const end = room + whole;                                              \
        for (; room < end; room += 4, w += 4, v += 4) {                                       \
            PAIRS_W(w, w_even, w_odd);                                                        \
            PAIRS_W(v, v_even, v_odd);                                                        \
            const int16x2_t x_even = (int16x2_t)room[0], y_even = (int16x2_t)room[1];         \
            const int16x2_t x_odd = (int16x2_t)room[2], y_odd = (int16x2_t)room[3];           \
            xw = __smlad(x_even, w_even, xw);                                                 \
            xv = __smlad(x_even, v_even, xv);                                                 \
            yw = __smlad(y_even, w_even, yw);                                                 \
            yv = __smlad(y_even, v_even, yv);                                                 \
            xw = __smlad(x_odd, w_odd, xw);                                                   \
            xv = __smlad(x_odd, v_odd, xv);                                                   \
            yw = __smlad(y_odd, w_odd, yw);                                                   \
            yv = __smlad(y_odd, v_odd, yv);                                                   \
        }                                                                                     \
        for (x += whole, y += whole, count &= 3; count > 0; --count, ++x, ++y, ++w, ++v) {    \
            xw += (int32_t)*x * (int32_t)*w;                                                  \
            xv += (int32_t)*x * (int32_t)*v;                                                  \
            yw += (int32_t)*y * (int32_t)*w;                                                  \
            yv += (int32_t)*y * (int32_t)*v;                                                  \
        }                                                                                     \
        sums[0] = xw;                                                                         \
        sums[1] = xv;                                                                         \
        sums[2] = yw;                                                                         \
        sums[3] = yv;                                                                         \
    }

#define DCT_DEFINE_FOUR_DSP(NAME, X, W, PAIRS_X, PAIRS_W)                               \
    static inline void NAME##_four(const X* x, const W* w, int32_t depth, int32_t taps, \
                                   int32_t* sums) {                                     \
        int32_t a = 0, b = 0, c = 0, d = 0;                                             \
        _Pragma("GCC unroll 9") for (; taps > 0; --taps, x += depth, w += depth) {      \
            PAIRS_X(x, x_even, x_odd);                                                  \
            PAIRS_W(w, w_even, w_odd);                                                  \
            a = __smlabb(x_even, w_even, a);                                            \
            b = __smlabb(x_odd, w_odd, b);                                              \
            c = __smlatt(x_even, w_even, c);                                            \
            d = __smlatt(x_odd, w_odd, d);                                              \
        }                                                                               \
        sums[0] = a;                                                                    \
        sums[1] = b;                                                                    \
        sums[2] = c;                                                                    \
        sums[3] = d;                                                                    \
    }

#define DCT_DEFINE_KERNELS_DSP(NAME, X, W, PAIRS_X, PAIRS_W) \
    DCT_DEFINE_DOT_DSP(NAME, X, W, PAIRS_X, PAIRS_W)         \
    DCT_DEFINE_TILE_DSP(NAME, X, W, PAIRS_X, PAIRS_W)        \
    DCT_DEFINE_FOUR_DSP(NAME, X, W, PAIRS_X, PAIRS_W)

#define DCT_TUNED_s8_s8_32
DCT_DEFINE_KERNELS_DSP(dct_dot_s8_s8_32, int8_t, int8_t, DCT_PAIRS_s8, DCT_PAIRS_s8)
#define DCT_TUNED_u8_s8_32
DCT_DEFINE_KERNELS_DSP(dct_dot_u8_s8_32, uint8_t, int8_t, DCT_PAIRS_u8, DCT_PAIRS_s8)
#define DCT_TUNED_s16_s8_32
DCT_DEFINE_KERNELS_DSP(dct_dot_s16_s8_32, int16_t, int8_t, DCT_PAIRS_s16, DCT_PAIRS_s8)
#define DCT_TUNED_s16_s16_32
DCT_DEFINE_KERNELS_DSP(dct_dot_s16_s16_32, int16_t, int16_t, DCT_PAIRS_s16, DCT_PAIRS_s16)
#define DCT_TUNED_u8_s16_32
DCT_DEFINE_KERNELS_DSP(dct_dot_u8_s16_32, uint8_t, int16_t, DCT_PAIRS_u8, DCT_PAIRS_s16)
#define DCT_TUNED_s8_s16_32
DCT_DEFINE_KERNELS_DSP(dct_dot_s8_s16_32, int8_t, int16_t, DCT_PAIRS_s8, DCT_PAIRS_s16)
#endif

/* CRC-32 (zlib's) of more bytes: starts with all ones, ends inverted. */
static inline uint32_t dct_crc32(uint32_t crc, const uint8_t* data, uint32_t bytes) {
    static const uint32_t table[16] = {0x00000000U, 0x1DB71064U, 0x3B6E20C8U, 0x26D930ACU,
                                       0x76DC4190U, 0x6B6B51F4U, 0x4DB26158U, 0x5005713CU,
                                       0xEDB88320U, 0xF00F9344U, 0xD6D6A3E8U, 0xCB61B38CU,
                                       0x9B64C2B0U, 0x86D3D2D4U, 0xA00AE278U, 0xBDBDF21CU};
    uint32_t k;
    for (k = 0; k < bytes; ++k) {
        crc ^= data[k];
        crc = (crc >> 4) ^ table[crc & 15U];
        crc = (crc >> 4) ^ table[crc & 15U];
    }
    return crc;
}

/* How a kernel moves over a picture of rows x columns x channels. */
typedef struct {
    int32_t rows, columns, channels;
    int32_t kernel_rows, kernel_columns;
    int32_t stride_rows, stride_columns;
    int32_t dilation_rows, dilation_columns;
    int32_t top, left; /* padding */
} dct_window;

/* The taps from a start in steps of a dilation that lie inside a picture: first and behind the
 * last. */
static inline int32_t dct_first_tap(int32_t start, int32_t dilation) {
    return start >= 0 ? 0 : (dilation - 1 - start) / dilation;
}

static inline int32_t dct_end_tap(int32_t start, int32_t dilation, int32_t size, int32_t taps) {
    const int32_t inside = start >= size ? 0 : (size - 1 - start) / dilation + 1;
    return inside < taps ? inside : taps;
}

/* memcpy; word by word where words may lie anywhere, since small C libraries copy bytes. */
static inline void dct_copy(uint8_t* to, const uint8_t* from, size_t bytes) {
#if defined(__ARM_FEATURE_UNALIGNED)
    uint32_t a, b;
    for (; bytes >= 8U; bytes -= 8U, to += 8, from += 8) {
        memcpy(&a, from, sizeof a);
        memcpy(&b, from + 4, sizeof b);
        memcpy(to, &a, sizeof a);
        memcpy(to + 4, &b, sizeof b);
    }
    for (; bytes > 0U; --bytes) *to++ = *from++;
#else
    memcpy(to, from, bytes);
#endif
}

/* Copies `count` channels from `first` on of everything that the kernel meets at an output pixel,
 * tap by tap; what lies outside is 0. Elements have `element` bytes. */
static inline void dct_gather(uint8_t* patch, const uint8_t* x, const dct_window* window,
                              int32_t row, int32_t column, int32_t first, int32_t count,
                              int32_t element) {
    const int32_t top = row * window->stride_rows - window->top;
    const int32_t left = column * window->stride_columns - window->left;
    const int32_t begin = dct_first_tap(left, window->dilation_columns);
    const int32_t end =
        dct_end_tap(left, window->dilation_columns, window->columns, window->kernel_columns);
    const size_t bytes = (size_t)(count * element);
    const int32_t is_whole = window->dilation_columns == 1 && count == window->channels;
    const int32_t step = window->dilation_columns * window->channels * element;
    int32_t y, tap;
    for (y = 0; y < window->kernel_rows; ++y) {
        const int32_t from = top + y * window->dilation_rows;
        if (from < 0 || from >= window->rows || end <= begin) {
            memset(patch, 0, bytes * (size_t)window->kernel_columns);
        } else {
            const int32_t place = from * window->columns + left + begin * window->dilation_columns;
            const uint8_t* source = x + (place * window->channels + first) * element;
            memset(patch, 0, bytes * (size_t)begin);
            if (is_whole) {
                dct_copy(patch + bytes * (size_t)begin, source, bytes * (size_t)(end - begin));
            } else {
                for (tap = begin; tap < end; ++tap)
                    dct_copy(patch + bytes * (size_t)tap, source + (tap - begin) * step, bytes);
            }
            memset(patch + bytes * (size_t)end, 0, bytes * (size_t)(window->kernel_columns - end));
        }
        patch += bytes * (size_t)window->kernel_columns;
    }
}

#endif
