/* Packed weights, decoded output by output straight from flash: C99, no heap, no state but the
 * caller's.
 *
 * The bytes are those of weights.bin (docs/files.md): canonical Huffman codes of runs and levels,
 * signs and mantissas beside them, centres, shifts and an exact inverse transform. They were made
 * with the program and are trusted, unlike a container that comes from outside (weights.h). */
#ifndef DCT_PACKED_H
#define DCT_PACKED_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DCT_PACKED_CODE 12 /* bits of the longest code */

/* Codes of length l are the 12-bit windows from limit[l - 1] to limit[l] - 1. */
typedef struct {
    uint16_t limit[DCT_PACKED_CODE + 1];
    uint16_t first[DCT_PACKED_CODE + 1]; /* place of the first symbol of a length */
    const uint16_t* symbols;             /* run << 8 | class; the class alone without runs */
    uint16_t direct, filler;
} dct_dictionary;

/* The weights of a layer. */
typedef struct {
    const dct_dictionary* dictionary;
    const uint8_t* data;      /* the sections of all substreams, one after the other */
    const uint32_t* sections; /* bytes of the codes and of the raw bits of each substream */
    int32_t substreams;
    int32_t outputs, taps, channels;
    int32_t is_csr;        /* columns stored beside the levels, in place of runs */
    int32_t by_taps;       /* the transform is one over the taps, else over neighbouring channels */
    int32_t rows, columns; /* of the transform, 1 x 1 for none */
    int32_t rounded;       /* bits that are rounded away behind the transform */
    int32_t is_narrow;     /* sums fit 32 bits */
    const int8_t* row_basis; /* rows x rows, columns x columns */
    const int8_t* column_basis;
    const uint8_t* shifts;  /* of each frequency */
    const int32_t* centres; /* of clusters, or NULL */
    const uint8_t* indices;
    int32_t index_bits;
} dct_packed;

typedef struct {
    const uint8_t* data;
    const uint8_t* end;
    uint32_t buffer;
    int32_t filled;
} dct_bits;

/* How far a layer is decoded. */
typedef struct {
    const dct_packed* packed;
    const uint8_t* next; /* the first byte of the next substream */
    dct_bits codes, raw;
    int32_t output, substream, last; /* `last`: the first output of the next substream */
    int32_t run;                     /* levels of a run that are still to come, */
    int32_t pending;                 /* and the class behind them, or -1 */
} dct_unpacker;

/* Before the first output. */
void dct_unpack_begin(dct_unpacker* unpacker, const dct_packed* packed);

/* The weights of the next output: taps * channels of them, channels last. */
void dct_unpack_row(dct_unpacker* unpacker, int32_t* row);

/* What the levels meet in place of the weights, in the place of a vector of taps * channels: the
 * basis stage. For weights without centres and rounding, where the compiler proved that all sums
 * fit. */
void dct_to_frequency(const dct_packed* packed, int32_t* x);

/* In place of `dct_unpack_row`: the next output's weights times the vector that has gone through
 * `dct_to_frequency`. Zeros take no time. */
int32_t dct_unpack_dot(dct_unpacker* unpacker, const int32_t* z);

#ifdef __cplusplus
}
#endif

#endif
