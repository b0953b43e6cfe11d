// Reads weights.bin, version 2 (docs/files.md), on the chip: walks the container, makes the tables
// of a dictionary, decodes substreams at one symbol a cycle.
//
// The container lies in a memory of 32-bit words behind an AXI master, its first byte the lowest of
// word 0. A section is fetched by a process of its own, whose reads are one run of addresses and so
// become bursts, and reaches the decoder through a FIFO: the memory's latency never enters the
// decoder's loop. Any byte may be wrong: what is read is checked first, and each loop is bounded by
// the bytes that are there.
#ifndef DCT_DECODER_H
#define DCT_DECODER_H

#include <hls_stream.h>

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

// --- substreams ---------------------------------------------------------------------------------

// A level that is not 0, and how many levels of the tensor come before it in the order of coding;
// or, with `last`, the end of a substream.
struct nonzero {
    ap_uint<29> position;
    ap_int<18> level;
    bool last;
};

// The same with the output, and the column tap * channels + channel.
struct placed {
    ap_uint<28> output, column;
    ap_int<18> level;
    bool last;
};

// A code of the section: index of the symbol (12 bits), whether the section may end behind it, no
// code at all; or the end.
typedef ap_uint<15> token;
const int TOKEN_ENDS = 12, TOKEN_INVALID = 13, TOKEN_LAST = 14;

// A token whose symbol was looked up: class (12 bits), run (8 bits), the token's flags.
typedef ap_uint<23> symbol;
const int SYMBOL_RUN = 12, SYMBOL_ENDS = 20, SYMBOL_INVALID = 21, SYMBOL_LAST = 22;

// Bytes [at, at + bytes) as words, zeros behind the last.
inline void load_section(const word32* words, unsigned at, unsigned bytes,
                         hls::stream<word32>& out) {
    const unsigned offset = at % 4;
    const unsigned fetched = (offset + bytes + 3) / 4 * (bytes > 0);
    const unsigned wanted = (bytes + 3) / 4;
    const word32 mask = bytes % 4 == 0 ? 0xFFFFFFFFu : (1u << 8 * (bytes % 4)) - 1;
    unsigned sent = 0;
    ap_uint<64> both = 0;
fetch:
    for (unsigned i = 0; i < fetched; ++i) {
        DCT_HLS(pipeline II = 1)
        both = both >> 32 | ap_uint<64>(words[at / 4 + i]) << 32;
        if (i > 0) {
            const word32 word = both >> 8 * offset;
            ++sent;
            out.write(sent == wanted ? word32(word & mask) : word);
        }
    }
    if (sent < wanted) out.write(word32(both >> (32 + 8 * offset)) & mask);
}

// Cuts a section into codes, one a cycle. The loop's recurrence is: 12 comparisons of the window,
// then the shift by the length they tell. The next word is put in place beside it, since the window
// was full before; symbols are looked up by whoever reads the tokens.
inline void split_codes(hls::stream<word32>& in, unsigned bytes,
                        const ap_uint<13> (&limit)[LONGEST_CODE + 1],
                        const ap_uint<12> (&first)[LONGEST_CODE + 1], hls::stream<token>& out) {
    DCT_HLS(array_partition variable = limit complete)
    DCT_HLS(array_partition variable = first complete)
    ap_uint<35> left = ap_uint<35>(bytes) * 8;  // bits
    ap_uint<30> words = (bytes + 3) / 4;
    ap_uint<64> buffer = 0;  // the next bit is the highest
    ap_uint<7> filled = 0;
fill:
    for (int i = 0; i < 2; ++i) {
        if (words == 0) break;
        const word32 word = in.read();
        const word32 turned = word << 24 | (word & 0xFF00) << 8 | (word >> 8 & 0xFF00) | word >> 24;
        buffer |= ap_uint<64>(turned) << (32 - 32 * i);
        filled += 32;
        --words;
    }
codes:
    while (left != 0) {
        DCT_HLS(pipeline II = 1)
        ap_uint<64> refilled = buffer;
        ap_uint<7> more = 0;
        if (filled <= 32 && words != 0) {
            const word32 word = in.read();
            const word32 turned =
                word << 24 | (word & 0xFF00) << 8 | (word >> 8 & 0xFF00) | word >> 24;
            refilled |= ap_uint<64>(turned) << (32 - filled);
            more = 32;
            --words;
        }
        const ap_uint<12> window = buffer >> 52;
        ap_uint<4> length = LONGEST_CODE;
    lengths:
        for (int l = LONGEST_CODE - 1; l > 0; --l) {
            DCT_HLS(unroll)
            if (window < limit[l]) length = l;
        }
        const bool invalid = window >= limit[LONGEST_CODE] || length > left;
        const ap_uint<13> rank = (window - limit[length - 1]) >> (LONGEST_CODE - length);
        buffer = refilled << length;
        // Zeros may follow the last word: the window shows them without being filled.
        filled = filled + more > length ? ap_uint<7>(filled + more - length) : ap_uint<7>(0);
        left = length < left ? ap_uint<35>(left - length) : ap_uint<35>(0);
        token code = ap_uint<12>(first[length] + rank);
        code[TOKEN_ENDS] = left < 8 && buffer >> 56 == 0;
        code[TOKEN_INVALID] = invalid;
        out.write(code);
    }
    token end = 0;
    end[TOKEN_LAST] = true;
    out.write(end);
}

// Looks the symbols up. A process of its own, so that nobody waits for the memory who has to know a
// symbol before the next one.
template <int SYMBOLS>
inline void look_up(hls::stream<token>& in, const ap_uint<20> (&symbols)[SYMBOLS],
                    hls::stream<symbol>& out) {
    bool is_last = false;
tokens:
    while (!is_last) {
        DCT_HLS(pipeline II = 1)
        const token code = in.read();
        const ap_uint<12> index = code;
        symbol found = index < SYMBOLS ? symbols[index] : ap_uint<20>(0);
        found[SYMBOL_ENDS] = code[TOKEN_ENDS];
        found[SYMBOL_INVALID] = code[TOKEN_INVALID];
        found[SYMBOL_LAST] = code[TOKEN_LAST];
        is_last = code[TOKEN_LAST];
        out.write(found);
    }
}

namespace detail {

// Raw bits, the next the lowest of `buffer`.
struct raw_reader {
    ap_uint<96> buffer;
    ap_uint<7> filled;
    unsigned words;  // to come

    void begin(hls::stream<word32>& in, unsigned bytes) {
        buffer = 0;
        filled = 0;
        words = (bytes + 3) / 4;
    fill:
        for (int i = 0; i < 2; ++i) {
            if (words == 0) break;
            buffer |= ap_uint<96>(in.read()) << 32 * i;
            filled += 32;
            --words;
        }
    }

    // Makes room for `width` bits to go, and fetches a word where there is room. The last word
    // counts whole; that too much was taken is told by the sum of the widths.
    void step(hls::stream<word32>& in, ap_uint<6> width) {
        DCT_HLS(inline)
        ap_uint<96> refilled = buffer;
        ap_uint<7> more = 0;
        if (filled <= 64 && words != 0) {
            refilled |= ap_uint<96>(in.read()) << filled;
            more = 32;
            --words;
        }
        buffer = refilled >> width;
        filled = filled + more > width ? ap_uint<7>(filled + more - width) : ap_uint<7>(0);
    }

    // Reads what is left. Was the section used up after `bits`, but for a padding of zeros?
    bool end(hls::stream<word32>& in, unsigned bytes, unsigned long long bits) {
        bool clean = words == 0 && buffer == 0;
    rest:
        for (; words != 0; --words) in.read();
        return clean && bits <= 8ull * bytes && 8ull * bytes - bits < 8;
    }
};

// Sign and mantissa of a class, `width` raw bits, as a level; 0 when it is too large.
inline ap_int<18> level_of(unsigned level_class, unsigned direct, ap_uint<17> bits,
                           ap_uint<6>& width) {
    DCT_HLS(inline)
    const bool extended = level_class > direct;
    const unsigned extra = extended ? level_class - direct - 1 : 0;
    width = level_class == 0 ? 0 : extra + 1;
    const ap_uint<17> kept = bits & ((1u << width) - 1);
    const unsigned base = extended ? direct + (1u << extra) : level_class;
    const unsigned magnitude = base + (kept.to_uint() >> 1);
    if (magnitude >> MAGNITUDE_BITS != 0) return 0;
    return kept[0] ? ap_int<18>(-static_cast<int>(magnitude))
                   : ap_int<18>(static_cast<int>(magnitude));
}

}  // namespace detail

// Coder `run`: `levels` levels of which the first is number `position` of the tensor. A symbol a
// cycle; where runs consist of ones, a level a cycle. Recurrences of a single step each: the
// position, and the raw bits.
inline void decode_run(hls::stream<symbol>& symbols, hls::stream<word32>& raw, unsigned raw_bytes,
                       unsigned filler, unsigned direct, unsigned position, unsigned levels,
                       hls::stream<nonzero>& out, bool& failed) {
    detail::raw_reader reader;
    reader.begin(raw, raw_bytes);
    ap_uint<29> done = 0;
    ap_uint<8> fillers = 0;  // still to come before the class of `code`
    symbol code = 0;
    unsigned long long bits = 0;
    bool wrong = false, is_last = false;
decode:
    while (!is_last) {
        DCT_HLS(pipeline II = 1)
        const bool begins = fillers == 0;
        ap_uint<8> before = fillers;
        if (begins) {
            code = symbols.read();
            before = code >> SYMBOL_RUN;
        } else {
            before = fillers - 1;
        }
        is_last = code[SYMBOL_LAST];
        fillers = 0;
        if (!is_last && done < levels && !wrong) {
            const bool fills = filler != 0 && before != 0;
            const unsigned level_class = fills ? 1u : ap_uint<12>(code).to_uint();
            if (fills) fillers = before;
            done += filler != 0 ? ap_uint<9>(1) : ap_uint<9>(before + 1);
            ap_uint<6> width = 0;
            const ap_int<18> level =
                detail::level_of(level_class, direct, ap_uint<17>(reader.buffer), width);
            reader.step(raw, width);
            bits += width;
            wrong = code[SYMBOL_INVALID] || done > levels ||
                    (done == levels && (fills || !code[SYMBOL_ENDS])) ||
                    (level_class != 0 && level == 0) || bits > 8ull * raw_bytes;
            if (wrong) fillers = 0;
            if (level_class != 0 && !wrong) {
                const nonzero found = {ap_uint<29>(position + done - 1), level, false};
                out.write(found);
            }
        }
    }
    const bool ended = reader.end(raw, raw_bytes, bits);
    failed = wrong || done != levels || !ended;
    const nonzero end = {0, 0, true};
    out.write(end);
}

// Coder `csr`: `outputs` outputs of `columns` levels. A count or a nonzero a cycle, or two where
// the raw bits of both come to more than a word a cycle.
inline void decode_csr(hls::stream<symbol>& symbols, hls::stream<word32>& raw, unsigned raw_bytes,
                       unsigned direct, unsigned position, unsigned outputs, unsigned columns,
                       hls::stream<nonzero>& out, bool& failed) {
    const unsigned count_bits = bit_length(columns), column_bits = bit_length(columns - 1);
    detail::raw_reader reader;
    reader.begin(raw, raw_bytes);
    unsigned long long bits = 0;
    unsigned output = 0, left = 0, least = 0, base = position;
    bool wrong = false, is_last = false, ends = true, begun = false, seen = false;
decode:
    while (!wrong && (left > 0 || output < outputs)) {
        DCT_HLS(pipeline II = 1)
        ap_uint<6> width = 0;
        if (reader.filled < 46 && reader.words != 0) {
            // Only fetches.
        } else if (left == 0) {
            left = ap_uint<32>(reader.buffer).to_uint() & ((1u << count_bits) - 1);
            width = count_bits;
            wrong = left > columns;
            least = 0;
            if (begun) base += columns;
            begun = true;
            ++output;
        } else {
            const symbol code = symbols.read();
            is_last = code[SYMBOL_LAST];
            ends = code[SYMBOL_ENDS];
            seen = true;
            const unsigned level_class = ap_uint<12>(code).to_uint();
            const unsigned column =
                ap_uint<32>(reader.buffer).to_uint() & ((1u << column_bits) - 1);
            const ap_int<18> level = detail::level_of(
                level_class, direct, ap_uint<17>(reader.buffer >> column_bits), width);
            width += column_bits;
            wrong = is_last || code[SYMBOL_INVALID] || level == 0 || column < least ||
                    column >= columns || bits + width > 8ull * raw_bytes;
            if (!wrong) {
                const nonzero found = {ap_uint<29>(base + column), level, false};
                out.write(found);
            }
            least = column + 1;
            --left;
        }
        reader.step(raw, width);
        bits += width;
        if (bits > 8ull * raw_bytes) wrong = true;
    }
    bool extra = false;  // The padding may look like codes, but a section of padding only may not.
rest:
    while (!is_last) {
        is_last = symbols.read()[SYMBOL_LAST];
        if (!is_last && !seen) extra = true;
    }
    const bool ended = reader.end(raw, raw_bytes, bits);
    failed = wrong || extra || !ends || !ended;
    const nonzero end = {0, 0, true};
    out.write(end);
}

namespace detail {

// A process of a dataflow region stands in no condition.
inline void decode_levels(unsigned kind, hls::stream<symbol>& symbols, hls::stream<word32>& raw,
                          unsigned raw_bytes, unsigned filler, unsigned direct,
                          unsigned first_output, unsigned outputs, unsigned columns,
                          hls::stream<nonzero>& out, bool& failed) {
    const unsigned position = first_output * columns;
    if (kind == RUN) {
        decode_run(symbols, raw, raw_bytes, filler, direct, position, outputs * columns, out,
                   failed);
    } else {
        decode_csr(symbols, raw, raw_bytes, direct, position, outputs, columns, out, failed);
    }
}

}  // namespace detail

// Numbers as (output, column): outputs + nonzeros cycles.
inline void place_levels(hls::stream<nonzero>& in, unsigned columns, unsigned first_output,
                         hls::stream<placed>& out) {
    unsigned output = first_output, base = first_output * columns;
    bool waiting = false, is_last = false;
    nonzero next = {0, 0, false};
places:
    while (!is_last) {
        DCT_HLS(pipeline II = 1)
        if (!waiting) next = in.read();
        waiting = !next.last && next.position - base >= columns;
        if (waiting) {
            base += columns;
            ++output;
        } else {
            is_last = next.last;
            const placed level = {output, ap_uint<28>(next.position - base), next.level, next.last};
            out.write(level);
        }
    }
}

// One substream of a coded tensor. Both pointers are to the container: the two sections are fetched
// at once, through an AXI master each. Wrong codes set `failed`; what came out until then is no
// use.
template <int SYMBOLS>
inline void decode_substream(const word32* code_words, const word32* raw_words, unsigned kind,
                             unsigned codes_at, unsigned code_bytes, unsigned raw_bytes,
                             const code_table<SYMBOLS>& table, unsigned first_output,
                             unsigned outputs, unsigned columns, hls::stream<placed>& out,
                             bool& failed) {
    DCT_HLS(dataflow)
    hls::stream<word32> codes, raw;
    hls::stream<token> tokens;
    hls::stream<symbol> symbols;
    hls::stream<nonzero> found;
    DCT_HLS(stream variable = codes depth = 64)
    DCT_HLS(stream variable = raw depth = 64)
    DCT_HLS(stream variable = tokens depth = 16)
    DCT_HLS(stream variable = symbols depth = 16)
    DCT_HLS(stream variable = found depth = 16)
    load_section(code_words, codes_at, code_bytes, codes);
    load_section(raw_words, codes_at + code_bytes, raw_bytes, raw);
    split_codes(codes, code_bytes, table.limit, table.first, tokens);
    look_up(tokens, table.symbols, symbols);
    detail::decode_levels(kind, symbols, raw, raw_bytes, table.filler, table.direct, first_output,
                          outputs, columns, found, failed);
    place_levels(found, columns, first_output, out);
}

// All substreams of a coded tensor, one after the other; nonzeros, each substream's end among them.
template <int SYMBOLS>
inline status decode_tensor(const word32* code_words, const word32* raw_words, const container& c,
                            const tensor& t, code_table<SYMBOLS>& table, hls::stream<placed>& out) {
    const status built = build_codes(code_words, t.dictionary_at, c.descriptors, table);
    if (built != OK) return built;
    if (t.kind == CSR && table.longest + table.filler != 0) return ERROR_TENSOR;
    unsigned at = t.payload_at + t.centre_bytes + t.index_bytes;
    status result = OK;
substreams:
    for (unsigned s = 0; s < t.substreams; ++s) {
        const unsigned code_bytes = get32(code_words, t.sections_at + 8 * s);
        const unsigned raw_bytes = get32(code_words, t.sections_at + 8 * s + 4);
        bool failed = false;
        decode_substream(code_words, raw_words, t.kind, at, code_bytes, raw_bytes, table,
                         t.first(s), t.first(s + 1) - t.first(s), t.taps * t.channels, out, failed);
        if (failed) result = ERROR_PAYLOAD;
        at += code_bytes + raw_bytes;
    }
    return result;
}

}  // namespace packed
}  // namespace dct

#endif
