#include "dct_packed.h"

#include <stddef.h>

#ifndef DCT_LARGEST_BLOCK
#define DCT_LARGEST_BLOCK 121 /* for any model; the build files know that of theirs */
#endif

static void begin(dct_bits* bits, const uint8_t* data, uint32_t count) {
    bits->data = data;
    bits->end = data + count;
    bits->buffer = 0U;
    bits->filled = 0;
}

/* Codes fill a byte from its highest bit. */
static inline int32_t next_symbol(dct_bits* bits, const dct_dictionary* dictionary) {
    const uint16_t* limit = dictionary->limit;
    uint32_t window, length = 0U;
    if (bits->filled < DCT_PACKED_CODE) {
        while (bits->filled <= 24 && bits->data < bits->end) {
            bits->buffer |= (uint32_t)*bits->data << (24 - bits->filled);
            ++bits->data;
            bits->filled += 8;
        }
    }
    window = bits->buffer >> (32 - DCT_PACKED_CODE);
    do ++length;
    while (window >= limit[length]);
    bits->buffer <<= length;
    bits->filled -= (int32_t)length;
    window = (window - limit[length - 1U]) >> (DCT_PACKED_CODE - length);
    return (int32_t)dictionary->symbols[dictionary->first[length] + window];
}

/* Everything else fills it from its lowest. At most 24 bits. */
static inline uint32_t next_bits(dct_bits* bits, int32_t width) {
    uint32_t value;
    if (bits->filled < width) {
        while (bits->filled <= 24 && bits->data < bits->end) {
            bits->buffer |= (uint32_t)*bits->data << bits->filled;
            ++bits->data;
            bits->filled += 8;
        }
    }
    value = bits->buffer & (((uint32_t)1 << width) - 1U);
    bits->buffer >>= width;
    bits->filled -= width;
    return value;
}

/* A level of a class above 0: a sign, then a mantissa. */
static inline int32_t next_level(dct_bits* raw, int32_t direct, int32_t class_number) {
    int32_t magnitude = class_number, sign;
    if (class_number > direct) {
        const int32_t extra = class_number - direct - 1;
        const uint32_t bits = next_bits(raw, extra + 1);
        sign = -(int32_t)(bits & 1U);
        magnitude = direct + (1 << extra) + (int32_t)(bits >> 1);
    } else {
        sign = -(int32_t)next_bits(raw, 1);
    }
    return (magnitude ^ sign) - sign;
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

/* Where the nonzero level of place k of an output goes: into its row, or times what it meets. */
static inline int32_t put(int32_t level, int32_t k, int32_t* row, const int32_t* z) {
    if (row != NULL) row[k] = level;
    return z != NULL ? level * z[k] : 0;
}

/* Runs go on from output to output. */
static int32_t decode_run(dct_unpacker* unpacker, int32_t size, int32_t* row, const int32_t* z) {
    const dct_dictionary* const dictionary = unpacker->packed->dictionary;
    const int32_t direct = (int32_t)dictionary->direct;
    dct_bits codes = unpacker->codes, raw = unpacker->raw; /* in registers */
    int32_t run = unpacker->run, pending = unpacker->pending;
    int32_t k = 0, sum = 0;
    while (k < size) {
        if (pending < 0) {
            const int32_t symbol = next_symbol(&codes, dictionary);
            run = symbol >> 8;
            pending = symbol & 255;
        }
        if (dictionary->filler != 0U) {
            for (; k < size && run > 0; --run, ++k)
                sum += put(next_level(&raw, direct, 1), k, row, z);
        } else if (run > size - k) {
            run -= size - k;
            k = size;
        } else {
            k += run;
            run = 0;
        }
        if (k < size) {
            if (pending > 0) sum += put(next_level(&raw, direct, pending), k, row, z);
            pending = -1;
            ++k;
        }
    }
    unpacker->codes = codes;
    unpacker->raw = raw;
    unpacker->run = run;
    unpacker->pending = pending;
    return sum;
}

static int32_t decode_csr(dct_unpacker* unpacker, int32_t size, int32_t* row, const int32_t* z) {
    const dct_dictionary* const dictionary = unpacker->packed->dictionary;
    const int32_t direct = (int32_t)dictionary->direct, column_bits = bit_length(size - 1);
    dct_bits codes = unpacker->codes, raw = unpacker->raw;
    uint32_t count = next_bits(&raw, bit_length(size));
    int32_t sum = 0;
    for (; count > 0U; --count) {
        const int32_t symbol = next_symbol(&codes, dictionary);
        const int32_t column = (int32_t)next_bits(&raw, column_bits);
        const int32_t level = next_level(&raw, direct, symbol);
        if (column < size) sum += put(level, column, row, z); /* always, unless flash is damaged */
    }
    unpacker->codes = codes;
    unpacker->raw = raw;
    return sum;
}

/* The levels of the next output. */
static int32_t decode(dct_unpacker* unpacker, int32_t* row, const int32_t* z) {
    const dct_packed* packed = unpacker->packed;
    const int32_t size = packed->taps * packed->channels;
    if (unpacker->output == unpacker->last) next_substream(unpacker);
    return packed->is_csr ? decode_csr(unpacker, size, row, z) : decode_run(unpacker, size, row, z);
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

/* A block with its centres added, steps, the inverse transform and rounding: in integers that hold
 * the sums, as the compiler proved. Most coefficients are 0. */
#define DEFINE_REBUILD(NAME, INT, UINT)                                                           \
    static void NAME(const dct_packed* packed, int32_t block, int32_t* weights, int32_t stride) { \
        const int32_t rows = packed->rows, columns = packed->columns, size = rows * columns;      \
        const int32_t* centre = packed->centres != NULL ? centre_of(packed, block, size) : NULL;  \
        INT half[DCT_LARGEST_BLOCK], values[DCT_LARGEST_BLOCK];                                   \
        int32_t k, u, v, x, y, any = 0;                                                           \
        for (k = 0; k < size; ++k) half[k] = 0;                                                   \
        for (u = 0, k = 0; u < rows; ++u) {                                                       \
            for (v = 0; v < columns; ++v, ++k) {                                                  \
                const INT level =                                                                 \
                    (INT)weights[k * stride] + (centre != NULL ? (INT)centre[k] : 0);             \
                const INT value = (INT)((UINT)level << packed->shifts[k]);                        \
                if (value != 0) {                                                                 \
                    any = 1;                                                                      \
                    for (x = 0; x < rows; ++x)                                                    \
                        half[x * columns + v] += value * packed->row_basis[u * rows + x];         \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        if (!any) {                                                                               \
            for (k = 0; k < size; ++k) weights[k * stride] = 0;                                   \
            return;                                                                               \
        }                                                                                         \
        for (k = 0; k < size; ++k) values[k] = 0;                                                 \
        for (x = 0; x < rows; ++x) {                                                              \
            for (v = 0; v < columns; ++v) {                                                       \
                const INT value = half[x * columns + v];                                          \
                if (value != 0) {                                                                 \
                    for (y = 0; y < columns; ++y)                                                 \
                        values[x * columns + y] += value * packed->column_basis[v * columns + y]; \
                }                                                                                 \
            }                                                                                     \
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
    for (k = 0; k < columns; ++k) row[k] = 0;
    (void)decode(unpacker, row, NULL);
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

void dct_to_frequency(const dct_packed* packed, int32_t* x) {
    const int32_t rows = packed->rows, columns = packed->columns, size = rows * columns;
    const int32_t stride = packed->by_taps ? packed->channels : 1;
    const int32_t blocks = packed->taps * packed->channels / size;
    int32_t block, k, u, v;
    for (block = 0; block < blocks; ++block) {
        int32_t* const values = &x[packed->by_taps ? block : block * size];
        int32_t half[DCT_LARGEST_BLOCK] = {0};
        for (u = 0; u < rows; ++u) {
            for (v = 0; v < columns; ++v) {
                int32_t sum = 0;
                for (k = 0; k < rows; ++k)
                    sum += packed->row_basis[u * rows + k] * values[(k * columns + v) * stride];
                half[u * columns + v] = sum;
            }
        }
        for (u = 0; u < rows; ++u) {
            for (v = 0; v < columns; ++v) {
                int32_t sum = 0;
                for (k = 0; k < columns; ++k)
                    sum += packed->column_basis[v * columns + k] * half[u * columns + k];
                k = u * columns + v;
                values[k * stride] = (int32_t)((uint32_t)sum << packed->shifts[k]);
            }
        }
    }
}

int32_t dct_unpack_dot(dct_unpacker* unpacker, const int32_t* z) {
    const int32_t sum = decode(unpacker, NULL, z);
    ++unpacker->output;
    return sum;
}
