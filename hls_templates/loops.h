// Helpers of pipelined loops.
#ifndef DCT_LOOPS_H
#define DCT_LOOPS_H

#include "pragmas.h"

namespace dct {

// Counts 0 .. LIMIT - 1 and round again; true when it wraps, so that calls nest like digits.
template <int LIMIT>
bool advance(int& counter) {
    DCT_HLS(inline)
    const bool wraps = counter == LIMIT - 1;
    counter = wraps ? 0 : counter + 1;
    return wraps;
}

// Banks of a memory of `words` that are updated in turn, one a cycle: a word is read again `words`
// cycles after it was written. Where that is less than a memory's latency, each word is a register.
constexpr int update_banks(int words) { return words < 4 ? words : 1; }

}  // namespace dct

#endif
