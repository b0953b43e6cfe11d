// Softmax: e = exponentials[index of max - x], p = e / sum of e, rounded half up to FRACTION bits.
#ifndef DCT_OPS_SOFTMAX_H
#define DCT_OPS_SOFTMAX_H

#include <hls_stream.h>

#include "row_maximum.h"
#include "word.h"

namespace dct {

namespace detail {

// min(round(distance * 2^-SHIFT), SIZE - 1)
template <int SHIFT, int SIZE, class INDEX, class D>
INDEX table_index(D distance) {
    DCT_HLS(inline)
    const int RIGHT = SHIFT > 0 ? SHIFT : 0;
    const int LEFT = SHIFT < 0 ? -SHIFT : 0;
    const int ROUNDED = bits<D>::value + RIGHT + LEFT + 1;
    typedef ap_uint<(ROUNDED > bits<INDEX>::value ? ROUNDED : bits<INDEX>::value)> wide;
    const wide half = wide(wide(1) << RIGHT) >> 1;
    const wide index = wide((wide(distance) << LEFT) + half) >> RIGHT;
    return index < wide(SIZE - 1) ? INDEX(index) : INDEX(SIZE - 1);
}

// (2 * e * 2^FRACTION + sum) / (2 * sum), saturated.
template <class OUTPUT, int FRACTION, class E, class S>
OUTPUT quotient(E e, S sum) {
    DCT_HLS(inline)
    const int DOUBLED = bits<E>::value + FRACTION + 1;
    const int WIDTH = (DOUBLED > bits<S>::value ? DOUBLED : bits<S>::value) + 1;
    typedef ap_uint<WIDTH> wide;
    const wide p = wide((wide(e) << (FRACTION + 1)) + sum) / wide(wide(sum) << 1);
    const OUTPUT largest = -1;
    return p < largest ? OUTPUT(p) : largest;
}

}  // namespace detail

template <class C, class E>
void softmax(hls::stream<word_t<typename C::input_t, C::LANES> >& in,
             const E (&exponentials)[C::SIZE],
             hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef typename C::input_t input;
    typedef typename C::entry_t entry;
    typedef typename C::sum_t total;
    typedef ap_uint<bits<input>::value> distance;
    const int WORDS = C::CHANNELS / C::LANES;
    // Every two lanes need a copy of the table, a memory having two ports.
    DCT_HLS(bind_storage variable = exponentials type = rom_np)

    DCT_MEMORY input values[WORDS][C::LANES];
    DCT_HLS(array_reshape variable = values complete dim = 2)
    DCT_MEMORY entry powers[WORDS][C::LANES];
    DCT_HLS(array_reshape variable = powers complete dim = 2)

pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
        const input maximum = keep_row<C>(in, values);

        total sum = 0;
    exponentiate:
        for (int word = 0; word < WORDS; ++word) {
            DCT_HLS(pipeline II = 1)
            total part = 0;
        exponential_lanes:
            for (int lane = 0; lane < C::LANES; ++lane) {
                DCT_HLS(unroll)
                const typename C::index_t index =
                    detail::table_index<C::INDEX_SHIFT, C::SIZE, typename C::index_t>(
                        distance(maximum - values[word][lane]));
                const entry e = exponentials[index.to_uint()];
                powers[word][lane] = e;
                part += e;
            }
            sum += part;
        }

    divide:
        for (int word = 0; word < WORDS; ++word) {
            DCT_HLS(pipeline II = 1)
            typename C::output_t quotients[C::LANES];
        quotient_lanes:
            for (int lane = 0; lane < C::LANES; ++lane) {
                DCT_HLS(unroll)
                quotients[lane] =
                    detail::quotient<typename C::output_t, C::FRACTION>(powers[word][lane], sum);
            }
            out.write(pack(quotients));
        }
    }
}

}  // namespace dct

#endif
