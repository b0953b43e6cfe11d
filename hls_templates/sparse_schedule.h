// The entries of a static schedule that the sparse units walk through.
#ifndef DCT_SPARSE_SCHEDULE_H
#define DCT_SPARSE_SCHEDULE_H

#include "word.h"

namespace dct {

namespace detail {

constexpr int largest(int a, int b) { return a > b ? a : b; }

// Entry `lane` of a row. Constant rows have several lanes a chunk of 64 bits or fewer, rows that
// are loaded a word for each.
template <int WIDTH, class CHUNK, int CHUNKS>
unsigned long long entry_of(const CHUNK (&row)[CHUNKS], int lane) {
    DCT_HLS(inline)
    static_assert(WIDTH <= 64, "an entry has at most 64 bits");
    const int PER_CHUNK = 64 / WIDTH;
    const unsigned long long chunk = row[lane / PER_CHUNK];
    return (chunk >> lane % PER_CHUNK * WIDTH) & (~0ULL >> (64 - WIDTH));
}

template <int WIDTH, int LANES>
unsigned long long entry_of(const ap_uint<WIDTH> (&row)[LANES], int lane) {
    DCT_HLS(inline)
    static_assert(WIDTH <= 64, "an entry has at most 64 bits");
    return row[lane].to_uint64();
}

// From the lowest bits: two fields that tell where the operand lies, and the weight.
template <class C>
struct nonzero {
    static const int WEIGHT_AT = C::SELECT_BITS + C::ADDRESS_BITS;
    static const int WIDTH = WEIGHT_AT + bits<typename C::weight_t>::value;

    int select, address;
    typename C::weight_t weight;

    explicit nonzero(unsigned long long raw)
        : select(raw & ((1ULL << C::SELECT_BITS) - 1)),
          address((raw >> C::SELECT_BITS) & ((1ULL << C::ADDRESS_BITS) - 1)),
          weight(raw >> WEIGHT_AT) {}
};

// The same, and in the highest bit whether a partial sum of the lane ends.
template <class C>
struct schedule_entry : nonzero<C> {
    static const int WIDTH = nonzero<C>::WIDTH + 1;

    bool last;

    explicit schedule_entry(unsigned long long raw)
        : nonzero<C>(raw), last(raw >> nonzero<C>::WIDTH & 1) {}
};

}  // namespace detail

}  // namespace dct

#endif
