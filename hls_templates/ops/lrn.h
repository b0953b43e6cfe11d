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

// Where an entry for u stands: u of OCTAVE bits come first, then 2^BITS entries for each more.
template <class C>
int octave_index(typename C::total_t u) {
    DCT_HLS(inline)
    typedef typename C::total_t total;
    const int LONGEST = bits<total>::value;
    const int length = bit_length(u);
    const total normal = total(u << (LONGEST - length));
    const int mantissa = total(normal >> (LONGEST - 1 - C::BITS)).to_int();
    return ((length - C::OCTAVE - 1) << C::BITS) + mantissa;
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
                    const typename C::entry_t entry = entries[detail::octave_index<C>(u)];
                    y[lane] = kept[lane] * entry;
                }
                out.write(pack(y));
            }
        }
    }
}

// Windows that hold all channels have one sum for the pixel: first all squares, then all products.
template <class C, class E>
void lrn_whole(hls::stream<word_t<typename C::input_t, C::LANES> >& in, const E (&entries)[C::SIZE],
               hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef typename C::input_t input;
    typedef typename C::total_t total;
    const int WORDS = C::CHANNELS / C::LANES;
    DCT_MEMORY word_t<input, C::LANES> kept[WORDS];

pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
        total sum = 0;
    square:
        for (int word = 0; word < WORDS; ++word) {
            DCT_HLS(pipeline II = 1)
            input x[C::LANES];
            kept[word] = in.read();
            unpack(kept[word], x);
        square_lanes:
            for (int lane = 0; lane < C::LANES; ++lane) {
                DCT_HLS(unroll)
                sum += typename C::square_t(x[lane] * x[lane]);
            }
        }
        const total u = total(total(sum << C::LEFT) + total(C::OFFSET));
        const typename C::entry_t entry = entries[detail::octave_index<C>(u)];
    scale:
        for (int word = 0; word < WORDS; ++word) {
            DCT_HLS(pipeline II = 1)
            input x[C::LANES];
            unpack(kept[word], x);
            typename C::output_t y[C::LANES];
        scale_lanes:
            for (int lane = 0; lane < C::LANES; ++lane) {
                DCT_HLS(unroll)
                y[lane] = x[lane] * entry;
            }
            out.write(pack(y));
        }
    }
}

}  // namespace dct

#endif
