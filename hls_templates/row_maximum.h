// What softmax begins with: a row is kept while its largest element is found.
#ifndef DCT_ROW_MAXIMUM_H
#define DCT_ROW_MAXIMUM_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

template <class C, int WORDS>
typename C::input_t keep_row(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
                             typename C::input_t (&values)[WORDS][C::LANES]) {
    DCT_HLS(inline)
    typedef typename C::input_t input;
    input maximum = 0;
find_maximum:
    for (int word = 0; word < WORDS; ++word) {
        DCT_HLS(pipeline II = 1)
        input x[C::LANES];
        unpack(in.read(), x);
        input largest = x[0];
    maximum_lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            values[word][lane] = x[lane];
            if (x[lane] > largest) largest = x[lane];
        }
        if (word == 0 || largest > maximum) maximum = largest;
    }
    return maximum;
}

}  // namespace dct

#endif
