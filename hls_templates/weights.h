// Weights of a fold, packed in 64-bit chunks: element e sits in chunk e / PER_CHUNK at the bits
// (e % PER_CHUNK) * width; no element straddles two chunks.
#ifndef DCT_WEIGHTS_H
#define DCT_WEIGHTS_H

#include "word.h"

namespace dct {

template <class T, int ELEMENTS>
struct chunks {
    static_assert(bits<T>::value <= 32, "weights have at most 32 bits");
    static const int PER_CHUNK = 64 / bits<T>::value;
    static const int COUNT = (ELEMENTS + PER_CHUNK - 1) / PER_CHUNK;
};

// CHUNK is a shorter unsigned type where a fold needs no 64 bits.
template <class T, class CHUNK, int COUNT>
T get_weight(const CHUNK (&fold)[COUNT], int element) {
    DCT_HLS(inline)
    const int PER_CHUNK = chunks<T, 1>::PER_CHUNK;
    return T(fold[element / PER_CHUNK] >> element % PER_CHUNK * bits<T>::value);
}

}  // namespace dct

#endif
