#include "dct_packed.h"

#include <stddef.h>

#define LARGEST_BLOCK 121

static void begin(dct_bits* bits, const uint8_t* data, uint32_t count) {
    bits->data = data;
    bits->end = data + count;
    bits->buffer = 0U;
    bits->filled = 0;
}

/* Codes fill a byte from its highest bit. */
static int32_t next_symbol(dct_bits* bits, const dct_dictionary* dictionary) {
    uint32_t window;
    int32_t length = 1;
    while (bits->filled <= 24 && bits->data < bits->end) {
        bits->buffer |= (uint32_t)*bits->data << (24 - bits->filled);
        ++bits->data;
        bits->filled += 8;
    }
    window = bits->buffer >> (32 - DCT_PACKED_CODE);
    while (window >= dictionary->limit[length]) ++length;
    bits->buffer <<= length;
    bits->filled -= length;
    window = (window - dictionary->limit[length - 1]) >> (DCT_PACKED_CODE - length);
    return (int32_t)dictionary->symbols[dictionary->first[length] + window];
}

/* Everything else fills it from its lowest. At most 24 bits. */
static uint32_t next_bits(dct_bits* bits, int32_t width) {
    uint32_t value;
    while (bits->filled < width && bits->data < bits->end) {
        bits->buffer |= (uint32_t)*bits->data << bits->filled;
        ++bits->data;
        bits->filled += 8;
    }
    value = bits->buffer & (((uint32_t)1 << width) - 1U);
    bits->buffer >>= width;
    bits->filled -= width;
    return value;
}

/* A level of a class above 0: a sign, then a mantissa. */
static int32_t next_level(dct_unpacker* unpacker, int32_t class_number) {
    const int32_t direct = (int32_t)unpacker->packed->dictionary->direct;
    const int32_t extra = class_number > direct ? class_number - direct - 1 : 0;
    const int32_t base = class_number > direct ? direct + (1 << extra) : class_number;
    const uint32_t bits = next_bits(&unpacker->raw, extra + 1);
    const int32_t magnitude = base + (int32_t)(bits >> 1);
    return (bits & 1U) != 0U ? -magnitude : magnitude;
}

static int32_t bit_length(int32_t value) {
    int32_t bits = 0;
    for (; value != 0; value >>= 1) ++bits;
    return bits;
}

static void next_substream(dct_unpacker* unpacker) {
    const dct_packed* packed = unpacker->packed;
    const uint32_t codes = packed->sections[2 * unpacker->substream];
    const uint32_t raw = packed->sections[2 * unpacker->substream + 1];
    begin(&unpacker->codes, unpacker->next, codes);
    begin(&unpacker->raw, unpacker->next + codes, raw);
    unpacker->next += codes + raw;
    ++unpacker->substream;
    unpacker->last =
        (int32_t)(((int64_t)unpacker->substream * packed->outputs) / packed->substreams);
    unpacker->run = 0;
    unpacker->pending = -1;
}

void dct_unpack_begin(dct_unpacker* unpacker, const dct_packed* packed) {
    unpacker->packed = packed;
    unpacker->next = packed->data;
    unpacker->output = 0;
    unpacker->substream = 0;
    unpacker->last = 0;
}

/* Runs go on from output to output. */
static void decode_run(dct_unpacker* unpacker, int32_t* row, int32_t size) {
    const dct_dictionary* dictionary = unpacker->packed->dictionary;
    const int32_t classes = (int32_t)dictionary->classes;
    int32_t k = 0;
    while (k < size) {
        if (unpacker->pending < 0) {
            const int32_t symbol = next_symbol(&unpacker->codes, dictionary);
            unpacker->run = symbol / classes;
            unpacker->pending = symbol % classes;
        }
        for (; k < size && unpacker->run > 0; --unpacker->run, ++k)
            row[k] = dictionary->filler != 0U ? next_level(unpacker, 1) : 0;
        if (k < size) {
            row[k] = unpacker->pending > 0 ? next_level(unpacker, unpacker->pending) : 0;
            unpacker->pending = -1;
            ++k;
        }
    }
}

static void decode_csr(dct_unpacker* unpacker, int32_t* row, int32_t size) {
    const int32_t column_bits = bit_length(size - 1);
    uint32_t count = next_bits(&unpacker->raw, bit_length(size));
    int32_t k;
    for (k = 0; k < size; ++k) row[k] = 0;
    for (; count > 0U; --count) {
        const int32_t symbol = next_symbol(&unpacker->codes, unpacker->packed->dictionary);
        const uint32_t column = next_bits(&unpacker->raw, column_bits);
        row[column] = next_level(unpacker, symbol);
    }
}

/* The centre of a block. */
static const int32_t* centre_of(const dct_packed* packed, int32_t block, int32_t size) {
    const int64_t first = (int64_t)block * packed->index_bits;
    uint32_t number = 0U;
    int32_t bit;
    for (bit = 0; bit < packed->index_bits; ++bit) {
        const uint32_t byte = packed->indices[(first + bit) >> 3];
        number |= ((byte >> ((first + bit) & 7)) & 1U) << bit;
    }
    return &packed->centres[number * (uint32_t)size];
}

/* to[x * stride] = the sum over u of from[u * stride] basis[u][x], and then a block with its
 * centres added, steps, the inverse transform and rounding: in integers that hold the sums, as the
 * compiler proved. */
#define DEFINE_REBUILD(NAME, INT, UINT)                                                           \
    static void NAME##_combine(const INT* from, INT* to, const int8_t* basis, int32_t size,       \
                               int32_t stride) {                                                  \
        int32_t x, u;                                                                             \
        for (x = 0; x < size; ++x) {                                                              \
            INT sum = 0;                                                                          \
            for (u = 0; u < size; ++u) sum += from[u * stride] * basis[u * size + x];             \
            to[x * stride] = sum;                                                                 \
        }                                                                                         \
    }                                                                                             \
    static void NAME(const dct_packed* packed, int32_t block, int32_t* weights, int32_t stride) { \
        const int32_t rows = packed->rows, columns = packed->columns, size = rows * columns;      \
        const int32_t* centre = packed->centres != NULL ? centre_of(packed, block, size) : NULL;  \
        INT values[LARGEST_BLOCK], half[LARGEST_BLOCK];                                           \
        int32_t k, any = 0;                                                                       \
        for (k = 0; k < size; ++k) {                                                              \
            const INT level = (INT)weights[k * stride] + (centre != NULL ? (INT)centre[k] : 0);   \
            values[k] = (INT)((UINT)level << packed->shifts[k]);                                  \
            any |= level != 0;                                                                    \
        }                                                                                         \
        if (!any) {                                                                               \
            for (k = 0; k < size; ++k) weights[k * stride] = 0;                                   \
            return;                                                                               \
        }                                                                                         \
        if (size > 1) {                                                                           \
            for (k = 0; k < columns; ++k)                                                         \
                NAME##_combine(&values[k], &half[k], packed->row_basis, rows, columns);           \
            for (k = 0; k < rows; ++k)                                                            \
                NAME##_combine(&half[k * columns], &values[k * columns], packed->column_basis,    \
                               columns, 1);                                                       \
        }                                                                                         \
        for (k = 0; k < size; ++k) {                                                              \
            INT value = values[k];                                                                \
            if (packed->rounded > 0)                                                              \
                value = (value + (INT)((UINT)1 << (packed->rounded - 1))) >> packed->rounded;     \
            weights[k * stride] = (int32_t)value;                                                 \
        }                                                                                         \
    }

DEFINE_REBUILD(rebuild_32, int32_t, uint32_t)
DEFINE_REBUILD(rebuild_64, int64_t, uint64_t)

void dct_unpack_row(dct_unpacker* unpacker, int32_t* row) {
    const dct_packed* packed = unpacker->packed;
    const int32_t columns = packed->taps * packed->channels;
    const int32_t size = packed->rows * packed->columns, blocks = columns / size;
    const int32_t stride = packed->by_taps ? packed->channels : 1;
    int32_t k;
    if (unpacker->output == unpacker->last) next_substream(unpacker);
    if (packed->is_csr) {
        decode_csr(unpacker, row, columns);
    } else {
        decode_run(unpacker, row, columns);
    }
    if (size > 1 || packed->centres != NULL || packed->shifts[0] != 0U || packed->rounded > 0) {
        for (k = 0; k < blocks; ++k) {
            int32_t* const weights = &row[packed->by_taps ? k : k * size];
            if (packed->is_narrow) {
                rebuild_32(packed, unpacker->output * blocks + k, weights, stride);
            } else {
                rebuild_64(packed, unpacker->output * blocks + k, weights, stride);
            }
        }
    }
    ++unpacker->output;
}
