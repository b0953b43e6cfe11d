// Local response normalization: y = x * entries[index of OFFSET + (sum of squares << LEFT)].
#ifndef DCT_OPS_LRN_H
#define DCT_OPS_LRN_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

namespace detail {

// The number of bits up to the highest that is set, a loop that becomes a priority encoder.
template <class T>
int bit_length(T value) {
    DCT_HLS(inline)
    int length = 0;
find_highest:
    for (int bit = 0; bit < bits<T>::value; ++bit) {
        DCT_HLS(unroll)
        if (T(value >> bit) != 0) length = bit + 1;
    }
    return length;
}

}  // namespace detail

// The squares of a pixel's channels pass through a register, BELOW channels behind the word that is
// written and ABOVE in front of it; outside the pixel they are 0.
template <class C, class E>
void lrn(hls::stream<word_t<typename C::input_t, C::LANES> >& in, const E (&entries)[C::SIZE],
         hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef typename C::input_t input;
    typedef typename C::square_t square;
    typedef typename C::total_t total;
    const int LANES = C::LANES, WORDS = C::CHANNELS / LANES;
    const int BEHIND = (C::BELOW + LANES - 1) / LANES, AHEAD = (C::ABOVE + LANES - 1) / LANES;
    const int LONGEST = bits<total>::value;
    const int NEWEST = (BEHIND + AHEAD) * LANES, KEPT = AHEAD * LANES;
    // Every two lanes need a copy of the table, a memory having two ports.
    DCT_HLS(bind_storage variable = entries type = rom_np)

    square squares[NEWEST + LANES];
    DCT_HLS(array_partition variable = squares complete)
    input kept[KEPT + LANES];
    DCT_HLS(array_partition variable = kept complete)

pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
    words:
        for (int word = 0; word < WORDS + AHEAD; ++word) {
            DCT_HLS(pipeline II = 1)
        age_squares:
            for (int k = 0; k < NEWEST; ++k) {
                DCT_HLS(unroll)
                squares[k] = word == 0 ? square(0) : squares[k + LANES];
            }
        age_values:
            for (int k = 0; k < KEPT; ++k) {
                DCT_HLS(unroll)
                kept[k] = kept[k + LANES];
            }
            input x[LANES];
            word_t<input, LANES> fresh = 0;
            if (word < WORDS) fresh = in.read();
            unpack(fresh, x);
        square_lanes:
            for (int lane = 0; lane < LANES; ++lane) {
                DCT_HLS(unroll)
                kept[KEPT + lane] = x[lane];
                squares[NEWEST + lane] = square(x[lane] * x[lane]);
            }
            if (word >= AHEAD) {
                typename C::output_t y[LANES];
            lanes:
                for (int lane = 0; lane < LANES; ++lane) {
                    DCT_HLS(unroll)
                    total sum = 0;
                add_squares:
                    for (int k = -C::BELOW; k <= C::ABOVE; ++k) {
                        DCT_HLS(unroll)
                        sum += squares[BEHIND * LANES + lane + k];
                    }
                    const total u = total(total(sum << C::LEFT) + total(C::OFFSET));
                    const int length = detail::bit_length(u);
                    const total normal = total(u << (LONGEST - length));
                    const int mantissa = total(normal >> (LONGEST - 1 - C::BITS)).to_int();
                    const int index = ((length - C::OCTAVE - 1) << C::BITS) + mantissa;
                    const typename C::entry_t entry = entries[index];
                    y[lane] = kept[lane] * entry;
                }
                out.write(pack(y));
            }
        }
    }
}

}  // namespace dct

#endif
