/* What the layers of a model are made of: dot products, windows, moves. C99, no state.
 *
 * A tuned dot product stands beside each portable one, chosen by what the compiler says about the
 * processor; all give the same integers, because the sum is exact in every order. */
#ifndef DCT_KERNELS_H
#define DCT_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Sum of x[k] * w[k]. */
#define DCT_DEFINE_DOT(NAME, X, W, SUM)                             \
    static inline SUM NAME(const X* x, const W* w, int32_t count) { \
        SUM sum = 0;                                                \
        int32_t k;                                                  \
        for (k = 0; k < count; ++k) sum += (SUM)x[k] * (SUM)w[k];   \
        return sum;                                                 \
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
                memcpy(patch + bytes * (size_t)begin, source, bytes * (size_t)(end - begin));
            } else {
                for (tap = begin; tap < end; ++tap)
                    memcpy(patch + bytes * (size_t)tap, source + (tap - begin) * step, bytes);
            }
            memset(patch + bytes * (size_t)end, 0, bytes * (size_t)(window->kernel_columns - end));
        }
        patch += bytes * (size_t)window->kernel_columns;
    }
}

#endif
