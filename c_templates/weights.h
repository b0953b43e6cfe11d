/* Reads weights.bin, version 2 (docs/files.md), from memory: C99, no heap, no recursion, no
 * dependency.
 *
 * The container is hostile until proven otherwise: every byte of it is checked before it is used,
 * nothing outside [data, data + size) is read, and no loop runs longer than the container's size
 * justifies.
 *
 * Weights are handed out output by output; within an output the column tap * channels + channel
 * counts up.
 */
#ifndef DCT_C_WEIGHTS_H
#define DCT_C_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DCT_MAX_RANK 16U
#define DCT_MAX_BLOCK 121U
#define DCT_MAX_SYMBOLS 4096U
#define DCT_LONGEST_CODE 12U

typedef enum {
    DCT_OK = 0,
    DCT_ERROR_MAGIC = 1,      /* no container */
    DCT_ERROR_VERSION = 2,    /* of another version */
    DCT_ERROR_LENGTH = 3,     /* shorter or longer than it says */
    DCT_ERROR_CHECKSUM = 4,   /* CRC-32 */
    DCT_ERROR_DICTIONARY = 5, /* an alphabet or a code that cannot be */
    DCT_ERROR_TENSOR = 6,     /* a descriptor that cannot be */
    DCT_ERROR_PAYLOAD = 7,    /* codes, raw bits, indices or paddings that cannot be */
    DCT_ERROR_RANGE = 8,      /* a weight does not fit into 32 bits */
    DCT_ERROR_ARGUMENT = 9    /* the call does not fit the tensor; the container is not to blame */
} dct_status;

typedef enum { DCT_WEIGHTS = 0, DCT_BIASES = 1, DCT_TABLES = 2, DCT_PARAMETERS = 3 } dct_role;
typedef enum { DCT_RAW = 0, DCT_RUN = 1, DCT_CSR = 2 } dct_kind;
typedef enum { DCT_NONE = 0, DCT_TAPS = 1, DCT_CHANNELS = 2 } dct_transform;

typedef struct {
    const uint8_t* data;
    uint32_t end;          /* of the payloads: where the checksum is */
    uint32_t dictionaries; /* their number */
    uint32_t tensors;
    uint32_t descriptors; /* where they begin */
    uint32_t payloads;    /* where they begin */
} dct_container;

/* Where the next tensor is. */
typedef struct {
    uint32_t number;
    uint32_t at;
    uint32_t payload;
} dct_cursor;

typedef struct {
    uint32_t role; /* dct_role */
    uint32_t kind; /* dct_kind */
    uint32_t rank;
    uint32_t sizes[DCT_MAX_RANK];
    uint32_t elements; /* product of the sizes */
    uint32_t payload;  /* where it begins */
    uint32_t bytes;    /* of the payload */
    /* raw */
    uint32_t width;
    uint32_t is_signed;
    uint32_t shift;
    /* coded */
    uint32_t taps;
    uint32_t channels;
    uint32_t outputs;
    uint32_t transform; /* dct_transform */
    uint32_t rows;
    uint32_t columns;
    uint32_t rounded;
    uint32_t shifts; /* where they begin */
    uint32_t centres;
    uint32_t centre_width;
    uint32_t centre_bytes;
    uint32_t index_width;
    uint32_t index_bytes;
    uint32_t dictionary; /* where it begins */
    uint32_t substreams;
    uint32_t sections; /* where their lengths begin */
} dct_tensor;

/* A dictionary made ready: codes of length l are the 12-bit windows from limit[l - 1] to limit[l]
 * - 1. */
typedef struct {
    uint32_t longest;
    uint32_t filler; /* magnitude of what a run consists of: 0 or 1 */
    uint32_t direct;
    uint32_t classes;
    uint16_t limit[DCT_LONGEST_CODE + 1U];
    uint16_t first[DCT_LONGEST_CODE + 1U]; /* index of the first symbol of a length */
    uint16_t symbols[DCT_MAX_SYMBOLS];     /* by (length, symbol) */
} dct_codes;

/* What decoding needs besides the result: about 10 KiB. */
typedef struct {
    dct_codes codes;
    int64_t block[DCT_MAX_BLOCK];
    int64_t half[DCT_MAX_BLOCK];
} dct_scratch;

/* Told of each level that is not 0, in the order of coding. */
typedef void (*dct_sink)(void* context, uint32_t output, uint32_t column, int32_t level);

/* Checks the container but for its code sections. Nothing else may be called unless this gave
 * DCT_OK. */
dct_status dct_open(dct_container* container, const uint8_t* data, size_t size);

/* The place of the first tensor. */
void dct_first(const dct_container* container, dct_cursor* cursor);

/* The tensor at the cursor, which goes on. DCT_ERROR_ARGUMENT behind the last one. */
dct_status dct_next(const dct_container* container, dct_cursor* cursor, dct_tensor* tensor);

/* Element `index` (row-major) of a raw tensor; of a value beyond INT64_MAX the same 64 bits. */
dct_status dct_raw_element(const dct_container* container, const dct_tensor* tensor, uint32_t index,
                           int64_t* value);

/* Decodes a coded tensor's levels and tells the sink, which may be null: then this only checks. */
dct_status dct_for_each(const dct_container* container, const dct_tensor* tensor,
                        dct_scratch* scratch, dct_sink sink, void* context);

/* All levels: levels[output * taps * channels + column]. `capacity` counts elements. */
dct_status dct_decode_levels(const dct_container* container, const dct_tensor* tensor,
                             dct_scratch* scratch, int32_t* levels, size_t capacity);

/* As dct_decode_levels, but centres added, shifts and the inverse transform applied, and bits
 * rounded away: the spatial weights. */
dct_status dct_decode_weights(const dct_container* container, const dct_tensor* tensor,
                              dct_scratch* scratch, int32_t* weights, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif
