/* Numbers and memory layout of an accelerator's inputs and outputs: C99, no heap, no state.
 *
 * A raw integer r of a terminal means r * 2^-fraction. Real inputs are quantized as
 * saturate(floor(x * 2^fraction + 1/2)), as if computed exactly: bit for bit what the toolchain's
 * simulator does. Where a terminal has a scale, r means (r - zero_point) * scale, and real inputs
 * are quantized as saturate(round(x / scale) + zero_point), half away from zero, of a float
 * quotient. Halves go to the even neighbour in both where a terminal says so. Do not compile with
 * -ffast-math. */
#ifndef ACCELERATOR_NUMBERS_H
#define ACCELERATOR_NUMBERS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ACCELERATOR_DIMENSIONS 5

/* An input or output of the accelerator, once a frame. */
typedef struct {
    const char* name;                       /* the model's */
    const char* identifier;                 /* that of the port: the DMA engine is dma_IDENTIFIER */
    uint32_t size;                          /* elements of a frame */
    uint32_t lanes;                         /* elements of a beat of the stream */
    uint32_t lane_bits;                     /* 8, 16, 32 or 64 bits of an element in memory */
    uint32_t width;                         /* bits that carry information */
    int is_signed;                          /* otherwise unsigned */
    const int32_t* fractions;               /* bits below the binary point */
    uint32_t fraction_count;                /* 1, or as many as the last dimension of the stream */
    uint32_t sizes[ACCELERATOR_DIMENSIONS]; /* of the stream, the last one is the fastest */
    uint32_t strides[ACCELERATOR_DIMENSIONS]; /* in the model's own layout, in elements */
    float scale;                              /* 0 where there are binary points in its place */
    int32_t zero_point;                       /* the raw integer of 0 beside a scale */
    int ties_to_even;                         /* how halves are rounded */
} accelerator_terminal;

typedef enum {
    ACCELERATOR_OK = 0,
    ACCELERATOR_BUSY,    /* not done yet, or started twice */
    ACCELERATOR_TIMEOUT, /* it did not finish; `culprit` of the accelerator tells which engine hangs
                          */
    ACCELERATOR_WRONG_HARDWARE, /* the build id is not that of the design */
    ACCELERATOR_DMA_FAILED,     /* an engine reports an error; see `culprit` */
    ACCELERATOR_WRONG_LENGTH,   /* an output came with another number of bytes; see `culprit` */
    ACCELERATOR_TOO_LONG,       /* no frames, or more bytes than a transfer can have */
    ACCELERATOR_NO_WEIGHTS,     /* the hardware wants weights to be loaded first */
    ACCELERATOR_REFUSED,    /* the weights are not those of this hardware; see `weight_status` */
    ACCELERATOR_CONSTANT,   /* weights are constants of this hardware */
    ACCELERATOR_NOT_FINITE, /* NaN or infinity in the inputs */
    ACCELERATOR_INEXACT     /* a double cannot hold the output exactly: take raw integers */
} accelerator_status;

/* A sentence about a status, in English. */
const char* accelerator_describe(accelerator_status status);

/* Bytes of a frame in memory. */
uint32_t accelerator_frame_bytes(const accelerator_terminal* terminal);

/* One number; *raw is the two's complement of the raw integer. ACCELERATOR_NOT_FINITE for NaN and
 * infinity. */
accelerator_status accelerator_quantize(const accelerator_terminal* terminal, int32_t fraction,
                                        double value, int64_t* raw);

/* One number, raw * 2^-fraction for example. ACCELERATOR_INEXACT when a double cannot hold it. */
accelerator_status accelerator_dequantize(const accelerator_terminal* terminal, int32_t fraction,
                                          int64_t raw, double* value);

/* A frame of an input, `size` elements in the model's own layout, to the bytes of the stream. */
accelerator_status accelerator_put_double(const accelerator_terminal* terminal,
                                          const double* values, void* frame);
accelerator_status accelerator_put_float(const accelerator_terminal* terminal, const float* values,
                                         void* frame);
void accelerator_put_raw(const accelerator_terminal* terminal, const int64_t* raw, void* frame);

/* A frame of an output to `size` elements in the model's own layout. */
accelerator_status accelerator_get_double(const accelerator_terminal* terminal, const void* frame,
                                          double* values);
void accelerator_get_raw(const accelerator_terminal* terminal, const void* frame, int64_t* raw);

#ifdef __cplusplus
}
#endif

#endif
