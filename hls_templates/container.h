// Walks weights.bin, version 2 (docs/files.md), on the chip: checks the container and its tensors'
// descriptors, and makes the tables of a dictionary. decoder.h decodes what lies in it.
//
// The container lies in a memory of 32-bit words behind an AXI master, its first byte the lowest of
// word 0. Any byte may be wrong: what is read is checked first, and each loop is bounded by the
// bytes that are there.
#ifndef DCT_CONTAINER_H
#define DCT_CONTAINER_H

#include "word.h"

namespace dct {
namespace packed {

typedef ap_uint<32> word32;

enum status {
    OK = 0,
    ERROR_MAGIC = 1,       // no container
    ERROR_VERSION = 2,     // of another version
    ERROR_LENGTH = 3,      // shorter or longer than it says
    ERROR_CHECKSUM = 4,    // CRC-32
    ERROR_DICTIONARY = 5,  // an alphabet or a code that cannot be
    ERROR_TENSOR = 6,      // a descriptor that cannot be
    ERROR_PAYLOAD = 7,     // codes, raw bits, indices or paddings that cannot be
    ERROR_ARGUMENT = 9     // behind the last tensor, or an alphabet too large for its table
};

enum role { WEIGHTS = 0, BIASES = 1, TABLES = 2, PARAMETERS = 3 };
enum kind { RAW = 0, RUN = 1, CSR = 2 };
enum transform { NONE = 0, TAPS = 1, CHANNELS = 2 };

const unsigned LONGEST_CODE = 12;
const unsigned MAGNITUDE_BITS = 17;
const unsigned HEADER_BYTES = 16;
const unsigned DICTIONARY_BYTES = 6;

// --- bytes and bits -----------------------------------------------------------------------------

inline unsigned byte_at(const word32* words, unsigned at) {
    DCT_HLS(inline)
    return (words[at / 4].to_uint() >> 8 * (at % 4)) & 255;
}

inline unsigned get16(const word32* words, unsigned at) {
    return byte_at(words, at) | byte_at(words, at + 1) << 8;
}

inline unsigned get32(const word32* words, unsigned at) {
    return get16(words, at) | get16(words, at + 2) << 16;
}

// Element `index` of `width` (0 to 64) bits each, lowest first, of those that begin at byte `at`.
inline unsigned long long element(const word32* words, unsigned at, unsigned index,
                                  unsigned width) {
    const unsigned long long first = static_cast<unsigned long long>(index) * width;
    unsigned long long value = 0;
bits:
    for (unsigned i = 0; i < width; ++i) {
        const unsigned long long bit = first + i;
        const unsigned byte = byte_at(words, at + static_cast<unsigned>(bit / 8));
        value |= static_cast<unsigned long long>(byte >> bit % 8 & 1) << i;
    }
    return value;
}

inline unsigned bit_length(unsigned value) {
    unsigned bits = 0;
positions:
    for (unsigned i = 0; i < 32; ++i) {
        DCT_HLS(unroll)
        if (value >> i & 1) bits = i + 1;
    }
    return bits;
}

inline unsigned crc32(const word32* words, unsigned bytes) {
    unsigned crc = 0xFFFFFFFFu;
bytes:
    for (unsigned at = 0; at < bytes; ++at) {
        DCT_HLS(pipeline II = 1)
        crc ^= byte_at(words, at);
    steps:
        for (int step = 0; step < 8; ++step) {
            DCT_HLS(unroll)
            crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
        }
    }
    return ~crc;
}

// --- dictionaries -------------------------------------------------------------------------------

// Codes of length l are the 12-bit windows from limit[l - 1] to limit[l] - 1; the first of them is
// symbol first[l]. A symbol is (run, class), the class in the lower 12 bits.
template <int SYMBOLS = 4096>
struct code_table {
    ap_uint<13> limit[LONGEST_CODE + 1];
    ap_uint<12> first[LONGEST_CODE + 1];
    ap_uint<20> symbols[SYMBOLS];
    unsigned longest, filler, direct;
};

// Code lengths out of nibbles.
struct length_reader {
    unsigned byte, end;
    bool odd;            // the upper nibble comes next
    unsigned run, last;  // how often the last length comes again
    bool failed;

    unsigned nibble(const word32* words) {
        if (byte >= end) {
            failed = true;
            return 0;
        }
        const unsigned value = byte_at(words, byte) >> (odd ? 4 : 0) & 15;
        if (odd) ++byte;
        odd = !odd;
        return value;
    }

    unsigned next(const word32* words, bool is_first) {
        if (run > 0) {
            --run;
            return last;
        }
        const unsigned value = nibble(words);
        if (value < 13) {
            last = value;
            return last;
        }
        run = nibble(words) + 2;
        if (value == 15) run += 16 * nibble(words) + 16;
        if (value != 13) last = 0;
        if (value == 13 && is_first) failed = true;
        return last;
    }
};

// An alphabet and how many codes of each length it has.
struct dictionary {
    unsigned longest, filler, direct, classes;
    unsigned counts[LONGEST_CODE + 1];
};

// Reads the dictionary at byte `at`, which moves behind it; it ends before byte `end`.
inline status read_dictionary(const word32* words, unsigned& at, unsigned end, dictionary& found) {
    if (end - at < DICTIONARY_BYTES) return ERROR_LENGTH;
    found.longest = byte_at(words, at);
    found.filler = byte_at(words, at + 1);
    found.direct = get16(words, at + 2);
    found.classes = get16(words, at + 4);
    const unsigned symbols = (found.longest + 1) * found.classes;
    if (found.classes <= found.direct || found.classes > found.direct + 1 + MAGNITUDE_BITS ||
        symbols > 4096 || found.filler > 1 || found.filler >= found.classes)
        return ERROR_DICTIONARY;
clear:
    for (unsigned length = 0; length <= LONGEST_CODE; ++length) found.counts[length] = 0;
    length_reader reader = {at + DICTIONARY_BYTES, end, false, 0, 0, false};
lengths:
    for (unsigned symbol = 0; symbol < symbols && !reader.failed; ++symbol)
        ++found.counts[reader.next(words, symbol == 0)];
    if (!reader.failed && reader.odd && reader.nibble(words) != 0) reader.failed = true;
    unsigned used = 0, kraft = 0;
sums:
    for (unsigned length = 1; length <= LONGEST_CODE; ++length) {
        used += found.counts[length];
        kraft += found.counts[length] << (LONGEST_CODE - length);
    }
    const bool only = used == 1 && found.counts[1] == 1;
    if (reader.failed || reader.run > 0 || (kraft != 1u << LONGEST_CODE && !only))
        return ERROR_DICTIONARY;
    at = reader.byte;
    return OK;
}

// The tables of the dictionary at byte `at`.
template <int SYMBOLS>
inline status build_codes(const word32* words, unsigned at, unsigned end,
                          code_table<SYMBOLS>& table) {
    dictionary found;
    length_reader reader = {at + DICTIONARY_BYTES, end, false, 0, 0, false};
    const status read = read_dictionary(words, at, end, found);
    if (read != OK) return read;
    table.longest = found.longest;
    table.filler = found.filler;
    table.direct = found.direct;
    ap_uint<13> place[LONGEST_CODE + 1];  // of the next symbol of each length
    table.limit[0] = 0;
    table.first[0] = 0;
    place[0] = 0;
    unsigned limit = 0, first = 0;
limits:
    for (unsigned length = 1; length <= LONGEST_CODE; ++length) {
        table.first[length] = first;
        place[length] = first;
        first += found.counts[length];
        limit += found.counts[length] << (LONGEST_CODE - length);
        table.limit[length] = limit;
    }
    if (first > unsigned(SYMBOLS)) return ERROR_ARGUMENT;
    unsigned symbol = 0;
runs:
    for (unsigned run = 0; run <= found.longest; ++run) {
    classes:
        for (unsigned level = 0; level < found.classes; ++level) {
            const unsigned length = reader.next(words, symbol++ == 0);
            if (length > 0) table.symbols[place[length]++] = run << 12 | level;
        }
    }
    return OK;
}

// --- the container ------------------------------------------------------------------------------

struct container {
    unsigned end;  // of the payloads
    unsigned dictionaries, tensors;
    unsigned descriptors, payloads;  // bytes where they begin
};

// Where the next tensor is.
struct cursor {
    unsigned number, at, payload;
};

// Names that end in _at are bytes of the container.
struct tensor {
    unsigned role, kind, elements, payload_at, bytes;
    unsigned width, is_signed, shift;  // raw
    unsigned taps, channels, outputs, transform, rows, columns, rounded, shifts_at;
    unsigned centres, centre_width, centre_bytes, index_width, index_bytes;
    unsigned dictionary_at, substreams, sections_at;

    // First output of a substream.
    unsigned first(unsigned substream) const {
        return static_cast<unsigned>(static_cast<unsigned long long>(substream) * outputs /
                                     substreams);
    }
};

namespace detail {

inline bool fits(const tensor& t) {
    const unsigned size = t.rows * t.columns;
    if (t.transform == NONE) return size == 1;
    return t.transform == TAPS ? size == t.taps : t.channels % size == 0;
}

inline unsigned long long bytes_of(unsigned long long count, unsigned width) {
    return (count * width + 7) / 8;
}

// Are the bits behind `bits` in their byte 0?
inline bool is_padded(const word32* words, unsigned at, unsigned long long bits) {
    return bits % 8 == 0 || byte_at(words, at + static_cast<unsigned>(bits / 8)) >> bits % 8 == 0;
}

inline status read_raw(const word32* words, const container& c, unsigned& at, unsigned rank,
                       tensor& t) {
    const unsigned sizes_at = at - 4 * rank;
    if (c.end - at < 3) return ERROR_LENGTH;
    t.width = byte_at(words, at);
    t.is_signed = byte_at(words, at + 1);
    t.shift = byte_at(words, at + 2);
    at += 3;
    if (t.width < 1 || t.width + t.shift > 64 || t.is_signed > 1) return ERROR_TENSOR;
    unsigned long long elements = 1;
zeros:
    for (unsigned i = 0; i < rank; ++i)
        if (get32(words, sizes_at + 4 * i) == 0) elements = 0;
sizes:
    for (unsigned i = 0; i < rank; ++i) {
        elements *= get32(words, sizes_at + 4 * i);
        if (elements >> 32 != 0) return ERROR_TENSOR;
    }
    const unsigned long long bytes = bytes_of(elements, t.width);
    if (bytes > c.end) return ERROR_LENGTH;
    t.elements = static_cast<unsigned>(elements);
    t.bytes = static_cast<unsigned>(bytes);
    return OK;
}

inline status read_sections(const word32* words, const container& c, unsigned& at, tensor& t) {
    if (c.end - at < 8 * t.substreams) return ERROR_LENGTH;
    t.sections_at = at;
    at += 8 * t.substreams;
    unsigned long long bytes = static_cast<unsigned long long>(t.centre_bytes) + t.index_bytes;
substreams:
    for (unsigned s = 0; s < t.substreams; ++s) {
        const unsigned long long part =
            static_cast<unsigned long long>(get32(words, t.sections_at + 8 * s)) +
            get32(words, t.sections_at + 8 * s + 4);
        const unsigned long long outputs = t.first(s + 1) - t.first(s);
        if (outputs * t.taps * t.channels > 2048 * part) return ERROR_TENSOR;
        bytes += part;
    }
    if (bytes > c.end) return ERROR_LENGTH;
    t.bytes = static_cast<unsigned>(bytes);
    return OK;
}

inline status read_coded(const word32* words, const container& c, unsigned& at, unsigned rank,
                         tensor& t) {
    const unsigned sizes_at = at - 4 * rank;
    if (c.end - at < 16) return ERROR_LENGTH;
    unsigned long long levels = 1, elements = 1;
level_sizes:
    for (unsigned i = 0; i < 3; ++i) {
        levels *= get32(words, at + 4 * i);
        if (levels == 0 || levels > 1u << 28) return ERROR_TENSOR;
    }
sizes:
    for (unsigned i = 0; i < rank; ++i) {
        elements *= get32(words, sizes_at + 4 * i);
        if (elements == 0 || elements > levels) return ERROR_TENSOR;
    }
    t.elements = static_cast<unsigned>(elements);
    t.taps = get32(words, at);
    t.channels = get32(words, at + 4);
    t.outputs = get32(words, at + 8);
    t.transform = byte_at(words, at + 12);
    t.rows = byte_at(words, at + 13);
    t.columns = byte_at(words, at + 14);
    t.rounded = byte_at(words, at + 15);
    at += 16;
    if (elements != levels || t.transform > CHANNELS || t.rows < 1 || t.rows > 11 ||
        t.columns < 1 || t.columns > 11 || !fits(t) || t.rounded > 32)
        return ERROR_TENSOR;
    const unsigned size = t.rows * t.columns;
    if (c.end - at < size + 8) return ERROR_LENGTH;
    t.shifts_at = at;
shifts:
    for (unsigned i = 0; i < size; ++i)
        if (byte_at(words, at + i) > 32) return ERROR_TENSOR;
    at += size;
    t.centres = get16(words, at);
    t.centre_width = byte_at(words, at + 2);
    t.dictionary_at = get32(words, at + 3);
    t.substreams = byte_at(words, at + 7);
    at += 8;
    if (t.centre_width > MAGNITUDE_BITS + 1 || (t.centres == 0) != (t.centre_width == 0) ||
        t.dictionary_at < HEADER_BYTES || t.dictionary_at >= c.descriptors || t.substreams < 1 ||
        t.substreams > 64 || t.substreams > t.outputs)
        return ERROR_TENSOR;
    t.index_width = t.centres > 0 ? bit_length(t.centres - 1) : 0;
    t.centre_bytes = static_cast<unsigned>(bytes_of(t.centres * size, t.centre_width));
    const unsigned long long bytes = bytes_of(levels / size, t.index_width);
    if (bytes > c.end) return ERROR_LENGTH;
    t.index_bytes = static_cast<unsigned>(bytes);
    return read_sections(words, c, at, t);
}

// Reads the descriptor at the cursor, which goes on.
inline status read_tensor(const word32* words, const container& c, cursor& place, tensor& t) {
    unsigned at = place.at;
    if (c.end - at < 3) return ERROR_LENGTH;
    t = tensor();
    t.role = byte_at(words, at);
    t.kind = byte_at(words, at + 1);
    const unsigned rank = byte_at(words, at + 2);
    at += 3;
    if (t.role > PARAMETERS || t.kind > CSR || rank > 16) return ERROR_TENSOR;
    if (c.end - at < 4 * rank) return ERROR_LENGTH;
    at += 4 * rank;
    const status read =
        t.kind == RAW ? read_raw(words, c, at, rank, t) : read_coded(words, c, at, rank, t);
    if (read != OK) return read;
    if (t.bytes > c.end - place.payload) return ERROR_LENGTH;
    t.payload_at = c.payloads + place.payload;
    place.at = at;
    place.payload += t.bytes;
    ++place.number;
    return OK;
}

// Paddings, centres and indices.
inline status check_payload(const word32* words, const tensor& t) {
    if (t.kind == RAW) {
        const unsigned long long bits = static_cast<unsigned long long>(t.elements) * t.width;
        return is_padded(words, t.payload_at, bits) ? OK : ERROR_PAYLOAD;
    }
    const unsigned size = t.rows * t.columns;
    const unsigned elements = t.centres * size;
    const unsigned indices = t.index_width > 0 ? t.elements / size : 0;
    const unsigned indices_at = t.payload_at + t.centre_bytes;
    if (!is_padded(words, t.payload_at,
                   static_cast<unsigned long long>(elements) * t.centre_width) ||
        !is_padded(words, indices_at, static_cast<unsigned long long>(indices) * t.index_width))
        return ERROR_PAYLOAD;
centres:
    for (unsigned i = 0; i < elements; ++i)
        if (t.centre_width > MAGNITUDE_BITS &&
            element(words, t.payload_at, i, t.centre_width) == 1u << MAGNITUDE_BITS)
            return ERROR_PAYLOAD;
indices:
    for (unsigned i = 0; i < indices; ++i)
        if (element(words, indices_at, i, t.index_width) >= t.centres) return ERROR_PAYLOAD;
    return OK;
}

}  // namespace detail

inline cursor first_tensor(const container& c) {
    const cursor place = {0, c.descriptors, 0};
    return place;
}

// The tensor at the cursor, which goes on. ERROR_ARGUMENT behind the last one.
inline status next_tensor(const word32* words, const container& c, cursor& place, tensor& t) {
    if (place.number >= c.tensors) return ERROR_ARGUMENT;
    return detail::read_tensor(words, c, place, t);
}

// Checks all but the code sections of a container that fills `bytes` bytes. Nothing else may be
// called unless this gave OK.
inline status open(const word32* words, unsigned bytes, container& c) {
    if (bytes < HEADER_BYTES + 4) return ERROR_LENGTH;
    if (get32(words, 0) != 0x57544344u) return ERROR_MAGIC;
    if (get16(words, 4) != 2) return ERROR_VERSION;
    if (get32(words, 12) != bytes) return ERROR_LENGTH;
    c.end = bytes - 4;
    c.dictionaries = get16(words, 6);
    c.tensors = get32(words, 8);
    if (crc32(words, c.end) != get32(words, c.end)) return ERROR_CHECKSUM;
    unsigned at = HEADER_BYTES;
dictionaries:
    for (unsigned i = 0; i < c.dictionaries; ++i) {
        dictionary found;
        const status read = read_dictionary(words, at, c.end, found);
        if (read != OK) return read;
    }
    c.descriptors = at;
    c.payloads = 0;
    cursor place = first_tensor(c);
    tensor t;
descriptors:
    for (unsigned i = 0; i < c.tensors; ++i) {
        const status read = detail::read_tensor(words, c, place, t);
        if (read != OK) return read;
    }
    if (c.end - place.at != place.payload) return ERROR_LENGTH;
    c.payloads = place.at;
    place = first_tensor(c);
payloads:
    for (unsigned i = 0; i < c.tensors; ++i) {
        next_tensor(words, c, place, t);
        const status checked = detail::check_payload(words, t);
        if (checked != OK) return checked;
    }
    return OK;
}

}  // namespace packed
}  // namespace dct

#endif
