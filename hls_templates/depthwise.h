// Depthwise convolution: each channel meets its own TAPS weights, MULTIPLIER times over.
#ifndef DCT_DEPTHWISE_H
#define DCT_DEPTHWISE_H

#include <hls_stream.h>

#include "multiply.h"
#include "weights.h"
#include "word.h"

namespace dct {

// in: sliding_window's words with CHANNEL_BLOCK = LANES. Output channel channel * MULTIPLIER + m is
// element lane * MULTIPLIER + m of weights[channel block * TAPS + tap].
template <class C, class CHUNK, class B>
void depthwise(
    hls::stream<word_t<typename C::input_t, C::LANES> >& in,
    const CHUNK (&weights)[(C::CHANNELS / C::LANES) * C::TAPS]
                          [chunks<typename C::weight_t, C::LANES * C::MULTIPLIER>::COUNT],
    const B (&bias)[C::CHANNELS * C::MULTIPLIER],
    hls::stream<word_t<typename C::output_t, C::LANES * C::MULTIPLIER> >& out) {
    static_assert(C::CHANNELS % C::LANES == 0, "LANES must divide CHANNELS");
    const int OUTPUTS = C::LANES * C::MULTIPLIER;
    DCT_HLS(array_reshape variable = weights complete dim = 2)
    DCT_HLS(array_partition variable = bias cyclic factor = OUTPUTS)

    typename C::output_t sums[OUTPUTS];
    DCT_HLS(array_partition variable = sums complete)

pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
    blocks:
        for (int block = 0; block < C::CHANNELS / C::LANES; ++block) {
        taps:
            for (int tap = 0; tap < C::TAPS; ++tap) {
                DCT_HLS(pipeline II = 1)
                typename C::input_t x[C::LANES];
                unpack(in.read(), x);
            outputs:
                for (int i = 0; i < OUTPUTS; ++i) {
                    DCT_HLS(unroll)
                    const typename C::output_t sum =
                        tap == 0 ? typename C::output_t(bias[block * OUTPUTS + i]) : sums[i];
                    const int fold = block * C::TAPS + tap;
                    sums[i] = sum + multiply(x[i / C::MULTIPLIER],
                                             get_weight<typename C::weight_t>(weights[fold], i));
                }
                if (tap == C::TAPS - 1) out.write(pack(sums));
            }
        }
    }
}

}  // namespace dct

#endif
