#include "numbers.h"

#include <math.h>

const char* accelerator_describe(accelerator_status status) {
    switch (status) {
        case ACCELERATOR_OK:
            return "done";
        case ACCELERATOR_BUSY:
            return "the accelerator is still at work";
        case ACCELERATOR_TIMEOUT:
            return "the accelerator or a DMA engine hangs";
        case ACCELERATOR_WRONG_HARDWARE:
            return "the build id is that of other hardware";
        case ACCELERATOR_DMA_FAILED:
            return "a DMA engine reports an error";
        case ACCELERATOR_WRONG_LENGTH:
            return "an output has another length than it should have";
        case ACCELERATOR_TOO_LONG:
            return "no frames, or more than a DMA transfer can take";
        case ACCELERATOR_NO_WEIGHTS:
            return "no weights have been loaded";
        case ACCELERATOR_REFUSED:
            return "the hardware refused the weights";
        case ACCELERATOR_CONSTANT:
            return "the weights of this hardware are constants";
        case ACCELERATOR_NOT_FINITE:
            return "NaN or infinity in the inputs";
        case ACCELERATOR_INEXACT:
            return "a double cannot hold an output exactly";
    }
    return "unknown status";
}

uint32_t accelerator_frame_bytes(const accelerator_terminal* terminal) {
    return terminal->size * (terminal->lane_bits / 8U);
}

/* To the nearest whole number, halves to even. */
static double to_even(double number) {
    const double below = floor(number);
    const double rest = number - below;
    return rest > 0.5 || (rest >= 0.5 && below - 2.0 * floor(below / 2.0) != 0.0) ? below + 1.0
                                                                                  : below;
}

accelerator_status accelerator_quantize(const accelerator_terminal* terminal, int32_t fraction,
                                        double value, int64_t* raw) {
    const int bits = (int)terminal->width - (terminal->is_signed ? 1 : 0);
    const double limit = ldexp(1.0, bits);
    const double low = terminal->is_signed ? -limit : 0.0;
    const uint64_t high =
        bits > 0 ? UINT64_MAX >> (64 - bits) : 0U; /* a sign bit alone: -1 and 0 */
    double scaled, nearest;
    if (!isfinite(value)) return ACCELERATOR_NOT_FINITE;
    /* Infinite for what saturates in any case. Adding 1/2 could round across a tie; the remainder
     * is exact, or so close to 1 that it stays above 1/2. */
    if (terminal->scale > 0.0F) {
        const volatile float narrow = (float)value; /* no excess precision on any machine */
        const volatile float quotient = narrow / terminal->scale;
        const double size = quotient < 0.0F ? -(double)quotient : (double)quotient;
        scaled = floor(size + 0.5);
        nearest = terminal->ties_to_even ? to_even(quotient) : quotient < 0.0F ? -scaled : scaled;
        nearest += (double)terminal->zero_point;
    } else {
        scaled = ldexp(value, (int)fraction);
        nearest = floor(scaled);
        if (scaled - nearest >= 0.5) nearest += 1.0;
        if (terminal->ties_to_even) nearest = to_even(scaled);
    }
    if (nearest >= limit)
        *raw = (int64_t)high;
    else if (terminal->is_signed)
        *raw = nearest < low ? -(int64_t)high - 1 : (int64_t)nearest;
    else
        *raw = nearest < low ? 0 : (int64_t)(uint64_t)nearest;
    return ACCELERATOR_OK;
}

accelerator_status accelerator_dequantize(const accelerator_terminal* terminal, int32_t fraction,
                                          int64_t raw, double* value) {
    /* Two halves that a double holds; their sum is exact when taking one off leaves the other. */
    const double lower = (double)((uint64_t)raw & 0xffffffffU);
    const double upper = terminal->is_signed
                             ? (double)(raw - (int64_t)((uint64_t)raw & 0xffffffffU))
                             : (double)((uint64_t)raw >> 32) * 4294967296.0;
    const double mantissa = upper + lower;
    if (terminal->scale > 0.0F) {
        *value = (mantissa - (double)terminal->zero_point) * (double)terminal->scale;
        return ACCELERATOR_OK;
    }
    if (mantissa - upper != lower) return ACCELERATOR_INEXACT;
    *value = ldexp(mantissa, -(int)fraction);
    return ldexp(*value, (int)fraction) == mantissa ? ACCELERATOR_OK : ACCELERATOR_INEXACT;
}

/* Where the walk through a frame is: in the stream, and in the model's layout. */
typedef struct {
    uint32_t at[ACCELERATOR_DIMENSIONS];
    uint32_t position;
    uint32_t element;
} walk;

static int is_inside(const accelerator_terminal* terminal, const walk* here) {
    return here->element < terminal->size;
}

static void advance(const accelerator_terminal* terminal, walk* here) {
    int dimension = ACCELERATOR_DIMENSIONS - 1;
    ++here->element;
    for (; dimension >= 0; --dimension) {
        here->position += terminal->strides[dimension];
        if (++here->at[dimension] < terminal->sizes[dimension]) return;
        here->position -= terminal->strides[dimension] * terminal->sizes[dimension];
        here->at[dimension] = 0;
    }
}

static int32_t fraction_at(const accelerator_terminal* terminal, const walk* here) {
    return terminal->fractions[here->element % terminal->fraction_count];
}

/* Byte by byte: little endian on any machine, at any alignment. */
static void store(const accelerator_terminal* terminal, const walk* here, int64_t raw,
                  void* frame) {
    const uint32_t bytes = terminal->lane_bits / 8U;
    uint8_t* to = (uint8_t*)frame + (uintptr_t)here->element * bytes;
    uint64_t rest = (uint64_t)raw;
    uint32_t k;
    for (k = 0; k < bytes; ++k, rest >>= 8) to[k] = (uint8_t)(rest & 0xffU);
}

static int64_t fetch(const accelerator_terminal* terminal, const walk* here, const void* frame) {
    const uint32_t bytes = terminal->lane_bits / 8U;
    const uint8_t* from = (const uint8_t*)frame + (uintptr_t)here->element * bytes;
    uint64_t raw = 0;
    uint32_t k;
    for (k = 0; k < bytes; ++k) raw |= (uint64_t)from[k] << (8U * k);
    if (terminal->is_signed && bytes < 8U && (from[bytes - 1U] & 0x80U) != 0U)
        raw |= UINT64_MAX << terminal->lane_bits;
    return (int64_t)raw;
}

accelerator_status accelerator_put_double(const accelerator_terminal* terminal,
                                          const double* values, void* frame) {
    walk here = {{0}, 0, 0};
    for (; is_inside(terminal, &here); advance(terminal, &here)) {
        int64_t raw = 0;
        const accelerator_status status = accelerator_quantize(
            terminal, fraction_at(terminal, &here), values[here.position], &raw);
        if (status != ACCELERATOR_OK) return status;
        store(terminal, &here, raw, frame);
    }
    return ACCELERATOR_OK;
}

accelerator_status accelerator_put_float(const accelerator_terminal* terminal, const float* values,
                                         void* frame) {
    walk here = {{0}, 0, 0};
    for (; is_inside(terminal, &here); advance(terminal, &here)) {
        int64_t raw = 0;
        const accelerator_status status = accelerator_quantize(
            terminal, fraction_at(terminal, &here), (double)values[here.position], &raw);
        if (status != ACCELERATOR_OK) return status;
        store(terminal, &here, raw, frame);
    }
    return ACCELERATOR_OK;
}

void accelerator_put_raw(const accelerator_terminal* terminal, const int64_t* raw, void* frame) {
    walk here = {{0}, 0, 0};
    for (; is_inside(terminal, &here); advance(terminal, &here))
        store(terminal, &here, raw[here.position], frame);
}

accelerator_status accelerator_get_double(const accelerator_terminal* terminal, const void* frame,
                                          double* values) {
    walk here = {{0}, 0, 0};
    for (; is_inside(terminal, &here); advance(terminal, &here)) {
        const accelerator_status status =
            accelerator_dequantize(terminal, fraction_at(terminal, &here),
                                   fetch(terminal, &here, frame), &values[here.position]);
        if (status != ACCELERATOR_OK) return status;
    }
    return ACCELERATOR_OK;
}

void accelerator_get_raw(const accelerator_terminal* terminal, const void* frame, int64_t* raw) {
    walk here = {{0}, 0, 0};
    for (; is_inside(terminal, &here); advance(terminal, &here))
        raw[here.position] = fetch(terminal, &here, frame);
}
