/* libFuzzer: the decoder of containers (weights.c), whose input is hostile, and that of packed constants
 * (dct_packed.c), which damaged flash must not lead out of its arrays. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dct_packed.h"
#include "weights.h"

#define MOST_ELEMENTS (1U << 16)

static uint32_t crc32(const uint8_t* data, size_t size) {
    uint32_t crc = 0xFFFFFFFFU;
    for (size_t k = 0; k < size; ++k) {
        crc ^= data[k];
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0U ? 0xEDB88320U : 0U);
    }
    return ~crc;
}

/* A container whose checksum holds, so that what is behind it is reached. */
static void container(uint8_t* data, size_t size) {
    static dct_scratch scratch;
    dct_container opened;
    dct_cursor cursor;
    dct_tensor tensor;
    if (size >= 4U) {
        const uint32_t crc = crc32(data, size - 4U);
        for (size_t k = 0; k < 4U; ++k) data[size - 4U + k] = (uint8_t)(crc >> (8U * k));
    }
    if (dct_open(&opened, data, size) != DCT_OK) return;
    dct_first(&opened, &cursor);
    while (dct_next(&opened, &cursor, &tensor) == DCT_OK) {
        int64_t element;
        if (tensor.kind == DCT_RAW) {
            if (tensor.elements > 0U) (void)dct_raw_element(&opened, &tensor, tensor.elements - 1U, &element);
        } else if (tensor.elements <= MOST_ELEMENTS) {
            int32_t* const weights = malloc(4U * (size_t)tensor.elements);
            (void)dct_decode_levels(&opened, &tensor, &scratch, weights, tensor.elements);
            (void)dct_decode_weights(&opened, &tensor, &scratch, weights, tensor.elements);
            free(weights);
        }
    }
}

/* A layer that the generator could have written, with any bytes in its payload. */
static void constants(const uint8_t* data, size_t size) {
    static const int8_t basis_3[9] = {1, 1, 1, 1, 0, -1, 1, -2, 1}, basis_1[1] = {1};
    static const uint8_t shifts[9] = {0, 1, 2, 1, 0, 1, 2, 1, 0};
    static int32_t centres[4 * 9];
    uint16_t symbols[DCT_PACKED_CODE + 1];
    dct_dictionary dictionary;
    dct_packed packed;
    dct_unpacker unpacker;
    uint32_t sections[2];
    int32_t row[9 * 8], z[9 * 8];
    memset(&packed, 0, sizeof packed);
    memset(&dictionary, 0, sizeof dictionary);
    if (size < 32U) return;
    packed.is_csr = data[0] & 1;
    packed.by_taps = (data[0] >> 1) & 1;
    packed.is_narrow = (data[0] >> 2) & 1;
    packed.rounded = (data[0] >> 3) & 1;
    packed.index_bits = (data[0] >> 4) & 1 ? 2 : 0;
    packed.taps = packed.by_taps ? 9 : 1 + data[1] % 9;
    packed.channels = 1 + (data[1] >> 5);
    packed.outputs = 1 + data[2] % 16;
    packed.rows = packed.columns = packed.by_taps ? 3 : 1;
    packed.row_basis = packed.column_basis = packed.by_taps ? basis_3 : basis_1;
    packed.shifts = shifts;
    packed.substreams = 1;
    dictionary.direct = (uint16_t)(1 + data[3] % 8);
    dictionary.filler = packed.is_csr ? 0U : (data[3] >> 7) & 1U;
    for (unsigned length = 1, limit = 0; length <= DCT_PACKED_CODE; ++length) {
        limit += length < DCT_PACKED_CODE ? 1U << (DCT_PACKED_CODE - length) : 2U;
        dictionary.limit[length] = (uint16_t)limit; /* one code of each length, two of the longest */
        dictionary.first[length] = (uint16_t)(length - 1U);
    }
    for (unsigned k = 0; k <= DCT_PACKED_CODE; ++k) {
        const unsigned class_number = data[4U + k] % (dictionary.direct + 12U);
        const unsigned run = packed.is_csr ? 0U : data[17U + k];
        symbols[k] = (uint16_t)(run << 8 | (packed.is_csr && class_number == 0U ? 1U : class_number));
    }
    dictionary.symbols = symbols;
    packed.dictionary = &dictionary;
    data += 32, size -= 32U;
    if (packed.index_bits > 0) {
        const size_t bytes = ((size_t)packed.outputs * 72U * 2U + 7U) / 8U;
        if (size < bytes) return;
        packed.centres = centres;
        packed.indices = data;
        data += bytes, size -= bytes;
    }
    uint8_t* const payload = malloc(size > 0U ? size : 1U); /* exact: what is read behind it is found */
    memcpy(payload, data, size);
    packed.data = payload;
    sections[0] = (uint32_t)(size / 2U);
    sections[1] = (uint32_t)(size - size / 2U);
    packed.sections = sections;
    dct_unpack_begin(&unpacker, &packed);
    for (int32_t k = 0; k < packed.outputs; ++k) dct_unpack_row(&unpacker, row);
    for (int32_t k = 0; k < packed.taps * packed.channels; ++k) z[k] = k % 3 - 1;
    dct_to_frequency(&packed, z);
    dct_unpack_begin(&unpacker, &packed);
    for (int32_t k = 0; k < packed.outputs; ++k) (void)dct_unpack_dot(&unpacker, z);
    free(payload);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2U) return 0;
    uint8_t* const copy = malloc(size - 1U);
    memcpy(copy, data + 1, size - 1U);
    if ((data[0] & 1U) != 0U) {
        constants(copy, size - 1U);
    } else {
        container(copy, size - 1U);
    }
    free(copy);
    return 0;
}
