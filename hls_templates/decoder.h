// Decodes the substreams of a container (container.h) at one symbol a cycle.
//
// A section is fetched by a process of its own, whose reads are one run of addresses and so become
// bursts, and reaches the decoder through a FIFO: the memory's latency never enters the decoder's
// loop. Any byte may be wrong: what is read is checked first, and each loop is bounded by the bytes
// that are there.
#ifndef DCT_DECODER_H
#define DCT_DECODER_H

#include <hls_stream.h>

#include "container.h"
#include "word.h"

namespace dct {
namespace packed {

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
