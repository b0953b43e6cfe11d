#include "weights.h"

#define HEADER_BYTES 16U
#define DICTIONARY_BYTES 6U
#define VERSION 2U
#define ROLES 4U
#define LONGEST_BASIS 11U
#define MAX_SHIFT 32U
#define MAX_SUBSTREAMS 64U
#define MAX_LEVELS ((uint64_t)1 << 28)
#define DENSEST ((uint64_t)2048) /* levels that a byte can stand for */
#define MAGNITUDE_BITS 17U
#define WINDOWS (1U << DCT_LONGEST_CODE)

/* --- bytes and bits
 * ------------------------------------------------------------------------------------ */

static uint32_t get16(const uint8_t* p) { return (uint32_t)p[0] | ((uint32_t)p[1] << 8); }

static uint32_t get32(const uint8_t* p) { return get16(p) | (get16(&p[2]) << 16); }

static uint32_t bit_length(uint32_t value) {
    uint32_t bits = 0U;
    while (value != 0U) {
        value >>= 1;
        ++bits;
    }
    return bits;
}

static uint32_t crc32(const uint8_t* data, uint32_t size) {
    static const uint32_t table[16] = {0x00000000U, 0x1DB71064U, 0x3B6E20C8U, 0x26D930ACU,
                                       0x76DC4190U, 0x6B6B51F4U, 0x4DB26158U, 0x5005713CU,
                                       0xEDB88320U, 0xF00F9344U, 0xD6D6A3E8U, 0xCB61B38CU,
                                       0x9B64C2B0U, 0x86D3D2D4U, 0xA00AE278U, 0xBDBDF21CU};
    uint32_t crc = 0xFFFFFFFFU;
    uint32_t i;
    for (i = 0U; i < size; ++i) {
        crc ^= data[i];
        crc = (crc >> 4) ^ table[crc & 15U];
        crc = (crc >> 4) ^ table[crc & 15U];
    }
    return ~crc;
}

/* Bytes that hold `count` elements of `width` bits; `count` * `width` is below 2^61. */
static uint64_t bytes_of(uint64_t count, uint32_t width) { return ((count * width) + 7U) / 8U; }

/* The `width` (0 to 64) bits from bit `position` on, lowest first. */
static uint64_t bits_at(const uint8_t* data, uint64_t position, uint32_t width) {
    uint64_t value = 0U;
    uint32_t done = 0U;
    while (done < width) {
        const uint64_t bit = position + done;
        const uint32_t offset = (uint32_t)(bit & 7U);
        uint32_t count = 8U - offset;
        uint32_t piece = (uint32_t)data[bit >> 3] >> offset;
        if (count > (width - done)) {
            count = width - done;
            piece &= (1U << count) - 1U;
        }
        value |= (uint64_t)piece << done;
        done += count;
    }
    return value;
}

/* Are the bits behind `bits` in the last byte of `data` 0? */
static int is_padded(const uint8_t* data, uint64_t bits) {
    return ((bits & 7U) == 0U) || (((uint32_t)data[bits >> 3] >> (bits & 7U)) == 0U);
}

static int64_t to_signed(uint64_t pattern) {
    return (pattern <= (uint64_t)INT64_MAX) ? (int64_t)pattern
                                            : (-(int64_t)(UINT64_MAX - pattern) - 1);
}

/* The lowest `width` (1 to 64) bits as two's complement. */
static int64_t extended(uint64_t pattern, uint32_t width) {
    const uint64_t sign = (uint64_t)1 << (width - 1U);
    return to_signed((pattern ^ sign) - sign);
}

/* --- dictionaries
 * -------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t* data;
    uint32_t byte;
    uint32_t end;
    uint32_t odd;  /* the next nibble is the upper one of its byte */
    uint32_t run;  /* how often `last` comes again */
    uint32_t last; /* length */
    int failed;
} length_reader;

static uint32_t next_nibble(length_reader* reader) {
    uint32_t value = 0U;
    if (reader->byte >= reader->end) {
        reader->failed = 1;
    } else {
        value = ((uint32_t)reader->data[reader->byte] >> (4U * reader->odd)) & 15U;
        reader->byte += reader->odd;
        reader->odd ^= 1U;
    }
    return value;
}

/* `begun`: a length was read before. */
static uint32_t next_length(length_reader* reader, int begun) {
    if (reader->run > 0U) {
        --reader->run;
    } else {
        const uint32_t value = next_nibble(reader);
        if (value < 13U) {
            reader->last = value;
        } else {
            uint32_t run = next_nibble(reader);
            if (value == 15U) {
                run += (16U * next_nibble(reader)) + 16U;
            }
            if (value != 13U) {
                reader->last = 0U;
            } else if (!begun) {
                reader->failed = 1;
            } else {
                /* the last length again */
            }
            reader->run = run + 2U;
        }
    }
    return reader->last;
}

/* Reads the dictionary at *at, which moves behind it; it ends before `end`. `codes` may be null. */
static dct_status read_dictionary(const dct_container* container, uint32_t* at, uint32_t end,
                                  dct_codes* codes) {
    const uint8_t* p = &container->data[*at];
    uint32_t counts[DCT_LONGEST_CODE + 1U] = {0U};
    uint32_t longest, filler, direct, classes, symbols, symbol, length, used = 0U, kraft = 0U;
    length_reader reader;
    if ((end - *at) < DICTIONARY_BYTES) {
        return DCT_ERROR_LENGTH;
    }
    longest = p[0];
    filler = p[1];
    direct = get16(&p[2]);
    classes = get16(&p[4]);
    symbols = (longest + 1U) * classes;
    if ((classes <= direct) || (classes > (direct + 1U + MAGNITUDE_BITS)) ||
        (symbols > DCT_MAX_SYMBOLS) || (filler > 1U) || (filler >= classes)) {
        return DCT_ERROR_DICTIONARY;
    }
    reader.data = container->data;
    reader.byte = *at + DICTIONARY_BYTES;
    reader.end = end;
    reader.odd = 0U;
    reader.run = 0U;
    reader.last = 0U;
    reader.failed = 0;
    for (symbol = 0U; (symbol < symbols) && !reader.failed; ++symbol) {
        ++counts[next_length(&reader, symbol > 0U)];
    }
    if (!reader.failed && (reader.odd != 0U) && (next_nibble(&reader) != 0U)) {
        reader.failed = 1;
    }
    for (length = 1U; length <= DCT_LONGEST_CODE; ++length) {
        used += counts[length];
        kraft += counts[length] << (DCT_LONGEST_CODE - length);
    }
    if (reader.failed || (reader.run > 0U) ||
        ((kraft != WINDOWS) && !((used == 1U) && (counts[1] == 1U)))) {
        return DCT_ERROR_DICTIONARY;
    }
    if (codes != NULL) {
        uint16_t next[DCT_LONGEST_CODE + 1U];
        codes->longest = longest;
        codes->filler = filler;
        codes->direct = direct;
        codes->classes = classes;
        codes->limit[0] = 0U;
        codes->first[0] = 0U;
        next[0] = 0U;
        for (length = 1U; length <= DCT_LONGEST_CODE; ++length) {
            const uint32_t before = (length == 1U) ? 0U : counts[length - 1U];
            const uint32_t windows = counts[length] << (DCT_LONGEST_CODE - length);
            codes->limit[length] = (uint16_t)(codes->limit[length - 1U] + windows);
            codes->first[length] = (uint16_t)(codes->first[length - 1U] + before);
            next[length] = codes->first[length];
        }
        reader.byte = *at + DICTIONARY_BYTES;
        reader.odd = 0U;
        reader.run = 0U;
        for (symbol = 0U; symbol < symbols; ++symbol) {
            length = next_length(&reader, symbol > 0U);
            if (length > 0U) {
                codes->symbols[next[length]] = (uint16_t)symbol;
                ++next[length];
            }
        }
        reader.byte += reader.odd;
    }
    *at = reader.byte;
    return DCT_OK;
}

/* --- descriptors
 * --------------------------------------------------------------------------------------- */

static int fits(const dct_tensor* tensor) {
    const uint32_t size = tensor->rows * tensor->columns;
    int result = 0;
    if (tensor->transform == (uint32_t)DCT_NONE) {
        result = size == 1U;
    } else if (tensor->transform == (uint32_t)DCT_TAPS) {
        result = size == tensor->taps;
    } else {
        result = (tensor->channels % size) == 0U;
    }
    return result;
}

static dct_status read_raw(const dct_container* container, uint32_t* at, dct_tensor* tensor) {
    const uint8_t* p = &container->data[*at];
    uint64_t elements = 1U;
    uint64_t bytes;
    uint32_t i;
    if ((container->end - *at) < 3U) {
        return DCT_ERROR_LENGTH;
    }
    tensor->width = p[0];
    tensor->is_signed = p[1];
    tensor->shift = p[2];
    *at += 3U;
    if ((tensor->width < 1U) || ((tensor->width + tensor->shift) > 64U) ||
        (tensor->is_signed > 1U)) {
        return DCT_ERROR_TENSOR;
    }
    for (i = 0U; i < tensor->rank; ++i) {
        if (tensor->sizes[i] == 0U) {
            elements = 0U;
        }
    }
    for (i = 0U; i < tensor->rank; ++i) {
        elements *= tensor->sizes[i];
        if (elements > UINT32_MAX) {
            return DCT_ERROR_TENSOR;
        }
    }
    bytes = bytes_of(elements, tensor->width);
    if (bytes > container->end) {
        return DCT_ERROR_LENGTH;
    }
    tensor->elements = (uint32_t)elements;
    tensor->bytes = (uint32_t)bytes;
    return DCT_OK;
}

static uint32_t first_output(const dct_tensor* tensor, uint32_t substream) {
    return (uint32_t)(((uint64_t)substream * tensor->outputs) / tensor->substreams);
}

static dct_status read_sections(const dct_container* container, uint32_t* at, dct_tensor* tensor) {
    uint64_t bytes = (uint64_t)tensor->centre_bytes + tensor->index_bytes;
    uint32_t s;
    if ((container->end - *at) < (8U * tensor->substreams)) {
        return DCT_ERROR_LENGTH;
    }
    tensor->sections = *at;
    *at += 8U * tensor->substreams;
    for (s = 0U; s < tensor->substreams; ++s) {
        const uint8_t* p = &container->data[tensor->sections + (8U * s)];
        const uint64_t part = (uint64_t)get32(p) + get32(&p[4]);
        const uint64_t outputs = first_output(tensor, s + 1U) - first_output(tensor, s);
        if (((outputs * tensor->taps) * tensor->channels) > (DENSEST * part)) {
            return DCT_ERROR_TENSOR;
        }
        bytes += part;
    }
    if (bytes > container->end) {
        return DCT_ERROR_LENGTH;
    }
    tensor->bytes = (uint32_t)bytes;
    return DCT_OK;
}

static dct_status read_coded(const dct_container* container, uint32_t* at, dct_tensor* tensor) {
    const uint8_t* p = &container->data[*at];
    uint64_t levels = 1U;
    uint64_t elements = 1U;
    uint64_t bytes;
    uint32_t i, size, sizes[3];
    if ((container->end - *at) < 16U) {
        return DCT_ERROR_LENGTH;
    }
    *at += 16U;
    for (i = 0U; i < 3U; ++i) {
        sizes[i] = get32(&p[4U * i]);
        levels *= sizes[i];
        if ((levels == 0U) || (levels > MAX_LEVELS)) {
            return DCT_ERROR_TENSOR;
        }
    }
    for (i = 0U; i < tensor->rank; ++i) {
        elements *= tensor->sizes[i];
        if ((elements == 0U) || (elements > levels)) {
            return DCT_ERROR_TENSOR;
        }
    }
    tensor->elements = (uint32_t)elements;
    tensor->taps = sizes[0];
    tensor->channels = sizes[1];
    tensor->outputs = sizes[2];
    tensor->transform = p[12];
    tensor->rows = p[13];
    tensor->columns = p[14];
    tensor->rounded = p[15];
    if ((elements != levels) || (tensor->transform > (uint32_t)DCT_CHANNELS) ||
        (tensor->rows < 1U) || (tensor->rows > LONGEST_BASIS) || (tensor->columns < 1U) ||
        (tensor->columns > LONGEST_BASIS) || !fits(tensor) || (tensor->rounded > MAX_SHIFT)) {
        return DCT_ERROR_TENSOR;
    }
    size = tensor->rows * tensor->columns;
    if ((container->end - *at) < (size + 8U)) {
        return DCT_ERROR_LENGTH;
    }
    tensor->shifts = *at;
    for (i = 0U; i < size; ++i) {
        if (container->data[*at + i] > MAX_SHIFT) {
            return DCT_ERROR_TENSOR;
        }
    }
    p = &container->data[*at + size];
    *at += size + 8U;
    tensor->centres = get16(p);
    tensor->centre_width = p[2];
    tensor->dictionary = get32(&p[3]);
    tensor->substreams = p[7];
    if ((tensor->centre_width > (MAGNITUDE_BITS + 1U)) ||
        ((tensor->centres == 0U) != (tensor->centre_width == 0U)) ||
        (tensor->dictionary < HEADER_BYTES) || (tensor->dictionary >= container->descriptors) ||
        (tensor->substreams < 1U) || (tensor->substreams > MAX_SUBSTREAMS) ||
        (tensor->substreams > tensor->outputs)) {
        return DCT_ERROR_TENSOR;
    }
    tensor->index_width = (tensor->centres > 0U) ? bit_length(tensor->centres - 1U) : 0U;
    tensor->centre_bytes =
        (uint32_t)bytes_of((uint64_t)tensor->centres * size, tensor->centre_width);
    bytes = bytes_of(levels / size, tensor->index_width);
    if (bytes > container->end) {
        return DCT_ERROR_LENGTH;
    }
    tensor->index_bytes = (uint32_t)bytes;
    return read_sections(container, at, tensor);
}

/* Reads the descriptor at the cursor. Its payload lies at container->payloads + cursor->payload. */
static dct_status read_tensor(const dct_container* container, dct_cursor* cursor,
                              dct_tensor* tensor) {
    static const dct_tensor nothing = {0};
    uint32_t at = cursor->at;
    uint32_t i;
    dct_status status = DCT_OK;
    *tensor = nothing;
    if ((container->end - at) < 3U) {
        return DCT_ERROR_LENGTH;
    }
    tensor->role = container->data[at];
    tensor->kind = container->data[at + 1U];
    tensor->rank = container->data[at + 2U];
    at += 3U;
    if ((tensor->role >= ROLES) || (tensor->kind > (uint32_t)DCT_CSR) ||
        (tensor->rank > DCT_MAX_RANK)) {
        return DCT_ERROR_TENSOR;
    }
    if ((container->end - at) < (4U * tensor->rank)) {
        return DCT_ERROR_LENGTH;
    }
    for (i = 0U; i < tensor->rank; ++i) {
        tensor->sizes[i] = get32(&container->data[at]);
        at += 4U;
    }
    status = (tensor->kind == (uint32_t)DCT_RAW) ? read_raw(container, &at, tensor)
                                                 : read_coded(container, &at, tensor);
    if ((status == DCT_OK) && (tensor->bytes > (container->end - cursor->payload))) {
        status = DCT_ERROR_LENGTH;
    }
    if (status == DCT_OK) {
        cursor->at = at;
        cursor->payload += tensor->bytes;
        ++cursor->number;
    }
    return status;
}

/* Paddings and indices: what is not entropy-coded. */
static dct_status check_payload(const dct_container* container, const dct_tensor* tensor) {
    const uint8_t* p = &container->data[tensor->payload];
    const uint32_t size = tensor->rows * tensor->columns;
    uint64_t bits;
    uint64_t i, count;
    if (tensor->kind == (uint32_t)DCT_RAW) {
        return is_padded(p, (uint64_t)tensor->elements * tensor->width) ? DCT_OK
                                                                        : DCT_ERROR_PAYLOAD;
    }
    bits = ((uint64_t)tensor->centres * size) * tensor->centre_width;
    if (!is_padded(p, bits)) {
        return DCT_ERROR_PAYLOAD;
    }
    count = (uint64_t)tensor->centres * size;
    for (i = 0U; i < count; ++i) {
        const uint64_t pattern = bits_at(p, i * tensor->centre_width, tensor->centre_width);
        if ((tensor->centre_width > MAGNITUDE_BITS) &&
            (pattern == ((uint64_t)1 << MAGNITUDE_BITS))) {
            return DCT_ERROR_PAYLOAD;
        }
    }
    p = &p[tensor->centre_bytes];
    count = (tensor->index_width > 0U) ? ((uint64_t)tensor->elements / size) : 0U;
    if (!is_padded(p, count * tensor->index_width)) {
        return DCT_ERROR_PAYLOAD;
    }
    for (i = 0U; i < count; ++i) {
        if (bits_at(p, i * tensor->index_width, tensor->index_width) >= tensor->centres) {
            return DCT_ERROR_PAYLOAD;
        }
    }
    return DCT_OK;
}

dct_status dct_open(dct_container* container, const uint8_t* data, size_t size) {
    dct_cursor cursor;
    dct_tensor tensor;
    dct_status status = DCT_OK;
    uint32_t at = HEADER_BYTES;
    uint32_t i;
    if ((container == NULL) || (data == NULL)) {
        return DCT_ERROR_ARGUMENT;
    }
    if ((size < 4U) || (data[0] != (uint8_t)'D') || (data[1] != (uint8_t)'C') ||
        (data[2] != (uint8_t)'T') || (data[3] != (uint8_t)'W')) {
        return DCT_ERROR_MAGIC;
    }
    if ((size < (HEADER_BYTES + 4U)) || (size > UINT32_MAX)) {
        return DCT_ERROR_LENGTH;
    }
    if (get16(&data[4]) != VERSION) {
        return DCT_ERROR_VERSION;
    }
    if (get32(&data[12]) != (uint32_t)size) {
        return DCT_ERROR_LENGTH;
    }
    container->data = data;
    container->end = (uint32_t)size - 4U;
    container->dictionaries = get16(&data[6]);
    container->tensors = get32(&data[8]);
    if (crc32(data, container->end) != get32(&data[container->end])) {
        return DCT_ERROR_CHECKSUM;
    }
    for (i = 0U; (i < container->dictionaries) && (status == DCT_OK); ++i) {
        status = read_dictionary(container, &at, container->end, NULL);
    }
    container->descriptors = at;
    container->payloads = 0U;
    dct_first(container, &cursor);
    for (i = 0U; (i < container->tensors) && (status == DCT_OK); ++i) {
        status = read_tensor(container, &cursor, &tensor);
    }
    if ((status == DCT_OK) && ((container->end - cursor.at) != cursor.payload)) {
        status = DCT_ERROR_LENGTH;
    }
    if (status == DCT_OK) {
        container->payloads = cursor.at;
        dct_first(container, &cursor);
        for (i = 0U; (i < container->tensors) && (status == DCT_OK); ++i) {
            status = dct_next(container, &cursor, &tensor);
            if (status == DCT_OK) {
                status = check_payload(container, &tensor);
            }
        }
    }
    return status;
}

void dct_first(const dct_container* container, dct_cursor* cursor) {
    cursor->number = 0U;
    cursor->at = container->descriptors;
    cursor->payload = 0U;
}

dct_status dct_next(const dct_container* container, dct_cursor* cursor, dct_tensor* tensor) {
    const uint32_t payload = cursor->payload;
    dct_status status;
    if (cursor->number >= container->tensors) {
        return DCT_ERROR_ARGUMENT;
    }
    status = read_tensor(container, cursor, tensor);
    tensor->payload = container->payloads + payload;
    return status;
}

dct_status dct_raw_element(const dct_container* container, const dct_tensor* tensor, uint32_t index,
                           int64_t* value) {
    uint64_t pattern;
    if ((tensor->kind != (uint32_t)DCT_RAW) || (index >= tensor->elements)) {
        return DCT_ERROR_ARGUMENT;
    }
    pattern =
        bits_at(&container->data[tensor->payload], (uint64_t)index * tensor->width, tensor->width);
    if (tensor->is_signed != 0U) {
        pattern = (uint64_t)extended(pattern, tensor->width);
    }
    *value = to_signed(pattern << tensor->shift);
    return DCT_OK;
}

/* --- levels
 * -------------------------------------------------------------------------------------------- */

/* A section: for codes the highest bit of a byte comes first and `buffer` is filled from its top,
 * for raw bits both are the other way round. Zeros follow the last byte. */
typedef struct {
    const uint8_t* data;
    uint32_t left; /* bytes that are not in the buffer */
    uint32_t filled;
    uint64_t buffer;
    int failed;
} bit_reader;

static void begin(bit_reader* reader, const uint8_t* data, uint32_t bytes) {
    reader->data = data;
    reader->left = bytes;
    reader->filled = 0U;
    reader->buffer = 0U;
    reader->failed = 0;
}

static uint32_t next_symbol(bit_reader* reader, const dct_codes* codes) {
    uint32_t window;
    uint32_t length = 1U;
    uint32_t symbol = 0U;
    while ((reader->filled <= 56U) && (reader->left > 0U)) {
        reader->buffer |= (uint64_t)reader->data[0] << (56U - reader->filled);
        reader->data = &reader->data[1];
        --reader->left;
        reader->filled += 8U;
    }
    window = (uint32_t)(reader->buffer >> (64U - DCT_LONGEST_CODE));
    while ((length <= DCT_LONGEST_CODE) && (window >= codes->limit[length])) {
        ++length;
    }
    if ((length > DCT_LONGEST_CODE) || (length > reader->filled)) {
        reader->failed = 1;
    } else {
        const uint32_t rank = (window - codes->limit[length - 1U]) >> (DCT_LONGEST_CODE - length);
        symbol = codes->symbols[codes->first[length] + rank];
        reader->buffer <<= length;
        reader->filled -= length;
    }
    return symbol;
}

/* The next `width` (0 to 32) raw bits. */
static uint32_t next_bits(bit_reader* reader, uint32_t width) {
    uint32_t value = 0U;
    while ((reader->filled <= 56U) && (reader->left > 0U)) {
        reader->buffer |= (uint64_t)reader->data[0] << reader->filled;
        reader->data = &reader->data[1];
        --reader->left;
        reader->filled += 8U;
    }
    if (width > reader->filled) {
        reader->failed = 1;
    } else {
        value = (uint32_t)(reader->buffer & (((uint64_t)1 << width) - 1U));
        reader->buffer >>= width;
        reader->filled -= width;
    }
    return value;
}

/* Is the section used up but for a padding of zeros? */
static int is_used_up(const bit_reader* reader) {
    return !reader->failed && (reader->left == 0U) && (reader->filled < 8U) &&
           (reader->buffer == 0U);
}

/* The level of a class above 0: sign, then mantissa. */
static int32_t next_level(bit_reader* raw, const dct_codes* codes, uint32_t class_number) {
    const uint32_t extra =
        (class_number > codes->direct) ? (class_number - codes->direct - 1U) : 0U;
    const uint32_t base =
        (class_number > codes->direct) ? (codes->direct + (1U << extra)) : class_number;
    const uint32_t bits = next_bits(raw, extra + 1U);
    const uint32_t magnitude = base + (bits >> 1);
    if ((magnitude >> MAGNITUDE_BITS) != 0U) {
        raw->failed = 1;
    }
    return ((bits & 1U) != 0U) ? -(int32_t)magnitude : (int32_t)magnitude;
}

typedef struct {
    bit_reader codes;
    bit_reader raw;
    uint32_t first; /* output */
    uint32_t last;  /* the first one that is not of this substream */
    uint32_t columns;
} substream;

static int decode_run(substream* part, const dct_codes* codes, dct_sink sink, void* context) {
    uint64_t left = (uint64_t)(part->last - part->first) * part->columns;
    uint32_t output = part->first;
    uint32_t column = 0U;
    while (left > 0U) {
        const uint32_t symbol = next_symbol(&part->codes, codes);
        const uint32_t run = symbol / codes->classes;
        uint32_t fillers = run; /* that have raw bits */
        if (part->codes.failed || (run >= left)) {
            return 0;
        }
        left -= (uint64_t)run + 1U;
        if (codes->filler == 0U) {
            column += run;
            fillers = 0U;
        }
        for (;;) {
            const uint32_t class_number = (fillers > 0U) ? 1U : (symbol % codes->classes);
            while (column >= part->columns) {
                column -= part->columns;
                ++output;
            }
            if (class_number > 0U) {
                const int32_t level = next_level(&part->raw, codes, class_number);
                if (part->raw.failed) {
                    return 0;
                }
                if (sink != NULL) {
                    sink(context, output, column, level);
                }
            }
            ++column;
            if (fillers == 0U) {
                break;
            }
            --fillers;
        }
    }
    return 1;
}

static int decode_csr(substream* part, const dct_codes* codes, dct_sink sink, void* context) {
    const uint32_t count_bits = bit_length(part->columns);
    const uint32_t column_bits = bit_length(part->columns - 1U);
    uint32_t output;
    for (output = part->first; output < part->last; ++output) {
        uint32_t count = next_bits(&part->raw, count_bits);
        uint32_t next = 0U; /* the smallest column that may come */
        if (part->raw.failed || (count > part->columns)) {
            return 0;
        }
        while (count > 0U) {
            const uint32_t class_number = next_symbol(&part->codes, codes);
            const uint32_t column = next_bits(&part->raw, column_bits);
            int32_t level;
            if (part->codes.failed || part->raw.failed || (class_number == 0U) || (column < next) ||
                (column >= part->columns)) {
                return 0;
            }
            level = next_level(&part->raw, codes, class_number);
            if (part->raw.failed) {
                return 0;
            }
            if (sink != NULL) {
                sink(context, output, column, level);
            }
            next = column + 1U;
            --count;
        }
    }
    return 1;
}

dct_status dct_for_each(const dct_container* container, const dct_tensor* tensor,
                        dct_scratch* scratch, dct_sink sink, void* context) {
    uint32_t at, s;
    dct_status status;
    if (tensor->kind == (uint32_t)DCT_RAW) {
        return DCT_ERROR_ARGUMENT;
    }
    at = tensor->dictionary;
    status = read_dictionary(container, &at, container->descriptors, &scratch->codes);
    if ((status == DCT_OK) && (tensor->kind == (uint32_t)DCT_CSR) &&
        ((scratch->codes.longest + scratch->codes.filler) != 0U)) {
        status = DCT_ERROR_TENSOR;
    }
    at = tensor->payload + tensor->centre_bytes + tensor->index_bytes;
    for (s = 0U; (s < tensor->substreams) && (status == DCT_OK); ++s) {
        const uint8_t* lengths = &container->data[tensor->sections + (8U * s)];
        const uint32_t code_bytes = get32(lengths);
        const uint32_t raw_bytes = get32(&lengths[4]);
        substream part;
        int done;
        begin(&part.codes, &container->data[at], code_bytes);
        begin(&part.raw, &container->data[at + code_bytes], raw_bytes);
        part.first = first_output(tensor, s);
        part.last = first_output(tensor, s + 1U);
        part.columns = tensor->taps * tensor->channels;
        if (tensor->kind == (uint32_t)DCT_RUN) {
            done = decode_run(&part, &scratch->codes, sink, context);
        } else {
            done = decode_csr(&part, &scratch->codes, sink, context);
        }
        if (!done || !is_used_up(&part.codes) || !is_used_up(&part.raw)) {
            status = DCT_ERROR_PAYLOAD;
        }
        at += code_bytes + raw_bytes;
    }
    return status;
}

typedef struct {
    int32_t* levels;
    uint32_t columns;
} level_array;

static void store_level(void* context, uint32_t output, uint32_t column, int32_t level) {
    const level_array* array = (const level_array*)context;
    array->levels[((size_t)output * array->columns) + column] = level;
}

dct_status dct_decode_levels(const dct_container* container, const dct_tensor* tensor,
                             dct_scratch* scratch, int32_t* levels, size_t capacity) {
    level_array array;
    size_t i;
    if ((tensor->kind == (uint32_t)DCT_RAW) || (tensor->elements > capacity)) {
        return DCT_ERROR_ARGUMENT;
    }
    for (i = 0U; i < tensor->elements; ++i) {
        levels[i] = 0;
    }
    array.levels = levels;
    array.columns = tensor->taps * tensor->channels;
    return dct_for_each(container, tensor, scratch, store_level, &array);
}

/* --- spatial weights
 * ----------------------------------------------------------------------------------- */

/* Row u of the basis of `size` (toolchain/packing/basis.py) at BASES[size's offset + u * size]. */
static const int8_t BASES[] = {
    1,  1,  1,  1,  -1, 1,  1,  1,  1,  0,  -1, 1,  -2, 1,  1,  1,  1,  1,  2,  1,  -1, -2, 1,
    -1, -1, 1,  1,  -2, 2,  -1, 1,  1,  1,  1,  1,  2,  1,  0,  -1, -2, 2,  -1, -2, -1, 2,  1,
    -2, 0,  2,  -1, 1,  -4, 6,  -4, 1,  1,  1,  1,  1,  1,  1,  8,  6,  2,  -2, -6, -8, 7,  0,
    -7, -7, 0,  7,  6,  -6, -6, 6,  6,  -6, 4,  -8, 4,  4,  -8, 4,  2,  -6, 8,  -8, 6,  -2, 1,
    1,  1,  1,  1,  1,  1,  8,  6,  3,  0,  -3, -6, -8, 7,  2,  -5, -8, -5, 2,  7,  6,  -3, -8,
    0,  8,  3,  -6, 5,  -7, -2, 8,  -2, -7, 5,  3,  -8, 6,  0,  -6, 8,  -3, 2,  -5, 7,  -8, 7,
    -5, 2,  1,  1,  1,  1,  1,  1,  1,  1,  8,  7,  4,  2,  -2, -4, -7, -8, 7,  3,  -3, -7, -7,
    -3, 3,  7,  7,  -2, -8, -4, 4,  8,  2,  -7, 6,  -6, -6, 6,  6,  -6, -6, 6,  4,  -8, 2,  7,
    -7, -2, 8,  -4, 3,  -7, 7,  -3, -3, 7,  -7, 3,  2,  -4, 7,  -8, 8,  -7, 4,  -2, 1,  1,  1,
    1,  1,  1,  1,  1,  1,  8,  7,  5,  3,  0,  -3, -5, -7, -8, 8,  4,  -1, -6, -8, -6, -1, 4,
    8,  7,  0,  -7, -7, 0,  7,  7,  0,  -7, 6,  -4, -8, 1,  8,  1,  -8, -4, 6,  5,  -7, -3, 8,
    0,  -8, 3,  7,  -5, 4,  -8, 4,  4,  -8, 4,  4,  -8, 4,  3,  -7, 8,  -5, 0,  5,  -8, 7,  -3,
    1,  -4, 6,  -8, 8,  -8, 6,  -4, 1,  1,  1,  1,  1,  1,  1,  1,  1,  1,  1,  8,  7,  6,  4,
    1,  -1, -4, -6, -7, -8, 8,  5,  0,  -5, -8, -8, -5, 0,  5,  8,  7,  1,  -6, -8, -4, 4,  8,
    6,  -1, -7, 6,  -2, -8, -2, 6,  6,  -2, -8, -2, 6,  6,  -6, -6, 6,  6,  -6, -6, 6,  6,  -6,
    5,  -8, 0,  8,  -5, -5, 8,  0,  -8, 5,  4,  -8, 6,  1,  -7, 7,  -1, -6, 8,  -4, 2,  -6, 8,
    -6, 2,  2,  -6, 8,  -6, 2,  1,  -4, 6,  -7, 8,  -8, 7,  -6, 4,  -1, 1,  1,  1,  1,  1,  1,
    1,  1,  1,  1,  1,  8,  7,  6,  4,  2,  0,  -2, -4, -6, -7, -8, 8,  5,  1,  -3, -7, -8, -7,
    -3, 1,  5,  8,  7,  2,  -4, -8, -6, 0,  6,  8,  4,  -2, -7, 7,  -1, -8, -5, 3,  8,  3,  -5,
    -8, -1, 7,  6,  -4, -7, 2,  8,  0,  -8, -2, 7,  4,  -6, 5,  -7, -3, 8,  1,  -8, 1,  8,  -3,
    -7, 5,  4,  -8, 2,  6,  -7, 0,  7,  -6, -2, 8,  -4, 3,  -8, 7,  -1, -5, 8,  -5, -1, 7,  -8,
    3,  2,  -6, 8,  -7, 4,  0,  -4, 7,  -8, 6,  -2, 1,  -3, 5,  -7, 8,  -8, 8,  -7, 5,  -3, 1};

static const uint16_t BASIS_AT[LONGEST_BASIS + 1U] = {0U,  0U,  1U,   5U,   14U,  30U,
                                                      55U, 91U, 140U, 204U, 285U, 385U};

/* to[x * stride] = the sum over u of from[u * stride] basis[u][x]. */
static void combine(const int64_t* from, int64_t* to, uint32_t size, uint32_t stride) {
    const int8_t* rows = &BASES[BASIS_AT[size]];
    uint32_t x, u;
    for (x = 0U; x < size; ++x) {
        int64_t sum = 0;
        for (u = 0U; u < size; ++u) {
            sum += from[u * stride] * rows[(u * size) + x];
        }
        to[x * stride] = sum;
    }
}

/* value / 2^bits to the nearest integer, half up. */
static int64_t rounded(int64_t value, uint32_t bits) {
    if (bits > 0U) {
        const int64_t unit = (int64_t)1 << bits;
        value += unit / 2;
        value = (value >= 0) ? (value / unit) : -((unit - 1 - value) / unit);
    }
    return value;
}

/* Block `block` of an output, whose entries lie `stride` apart from `weights` on. */
static dct_status rebuild(const dct_container* container, const dct_tensor* tensor,
                          dct_scratch* scratch, uint64_t block, int32_t* weights, uint32_t stride) {
    const uint32_t size = tensor->rows * tensor->columns;
    const uint8_t* shifts = &container->data[tensor->shifts];
    const uint8_t* centres = &container->data[tensor->payload];
    uint64_t centre = 0U;
    uint32_t i;
    if (tensor->index_width > 0U) {
        centre = bits_at(&centres[tensor->centre_bytes], block * tensor->index_width,
                         tensor->index_width);
    }
    for (i = 0U; i < size; ++i) {
        int64_t value = weights[(size_t)i * stride];
        if (tensor->centres > 0U) {
            const uint64_t at = ((centre * size) + i) * tensor->centre_width;
            value += extended(bits_at(centres, at, tensor->centre_width), tensor->centre_width);
        }
        scratch->block[i] = value * ((int64_t)1 << shifts[i]);
    }
    /* |level + centre| < 2^18, shifts <= 32 and bases that at most 88 * 88 fold: below 2^63. */
    if (tensor->transform != (uint32_t)DCT_NONE) {
        for (i = 0U; i < tensor->columns; ++i) {
            combine(&scratch->block[i], &scratch->half[i], tensor->rows, tensor->columns);
        }
        for (i = 0U; i < tensor->rows; ++i) {
            combine(&scratch->half[i * tensor->columns], &scratch->block[i * tensor->columns],
                    tensor->columns, 1U);
        }
    }
    for (i = 0U; i < size; ++i) {
        const int64_t value = rounded(scratch->block[i], tensor->rounded);
        if ((value < INT32_MIN) || (value > INT32_MAX)) {
            return DCT_ERROR_RANGE;
        }
        weights[(size_t)i * stride] = (int32_t)value;
    }
    return DCT_OK;
}

dct_status dct_decode_weights(const dct_container* container, const dct_tensor* tensor,
                              dct_scratch* scratch, int32_t* weights, size_t capacity) {
    dct_status status = dct_decode_levels(container, tensor, scratch, weights, capacity);
    if (status == DCT_OK) {
        const uint32_t size = tensor->rows * tensor->columns;
        const uint32_t blocks = (tensor->taps * tensor->channels) / size; /* of an output */
        const int by_taps = tensor->transform == (uint32_t)DCT_TAPS;
        const uint32_t stride = by_taps ? tensor->channels : 1U; /* between entries of a block */
        const uint32_t step = by_taps ? 1U : size;               /* between blocks */
        uint32_t output, block;
        for (output = 0U; (output < tensor->outputs) && (status == DCT_OK); ++output) {
            const size_t at = (size_t)output * tensor->taps * tensor->channels;
            for (block = 0U; (block < blocks) && (status == DCT_OK); ++block) {
                status = rebuild(container, tensor, scratch, ((uint64_t)output * blocks) + block,
                                 &weights[at + ((size_t)block * step)], stride);
            }
        }
    }
    return status;
}
