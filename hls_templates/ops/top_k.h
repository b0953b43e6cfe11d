#ifndef DCT_OPS_TOP_K_H
#define DCT_OPS_TOP_K_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// The KEPT largest or smallest of a pixel's channels, or their indices: insertion into a sorted
// register. An equal one goes behind those that came before, or with PREFERS_LAST in front.
template <class C>
void top_k(hls::stream<word_t<typename C::input_t, 1> >& in,
           hls::stream<word_t<typename C::output_t, 1> >& out) {
    typedef typename C::input_t input;
    input values[C::KEPT];
    DCT_HLS(array_partition variable = values complete)
    int indices[C::KEPT];
    DCT_HLS(array_partition variable = indices complete)

pixels:
    for (int pixel = 0; pixel < C::PIXELS; ++pixel) {
    channels:
        for (int channel = 0; channel < C::CHANNELS; ++channel) {
            DCT_HLS(pipeline II = 1)
            input x[1];
            unpack(in.read(), x);
            bool better[C::KEPT];
        compare:
            for (int place = 0; place < C::KEPT; ++place) {
                DCT_HLS(unroll)
                // The first are better than places that are empty yet.
                better[place] = place >= channel ||
                                (C::LARGEST ? x[0] > values[place] : x[0] < values[place]) ||
                                (C::PREFERS_LAST && x[0] == values[place]);
            }
        insert:
            for (int place = C::KEPT - 1; place >= 0; --place) {
                DCT_HLS(unroll)
                if (!better[place]) continue;
                const bool moves = place > 0 && better[place > 0 ? place - 1 : 0];
                values[place] = moves ? values[place > 0 ? place - 1 : 0] : x[0];
                indices[place] = moves ? indices[place > 0 ? place - 1 : 0] : channel;
            }
        }
    results:
        for (int place = 0; place < C::KEPT; ++place) {
            DCT_HLS(pipeline II = 1)
            typename C::output_t y[1];
            if (C::GIVES_INDICES)
                y[0] = indices[place];
            else
                y[0] = values[place];
            out.write(pack(y));
        }
    }
}

}  // namespace dct

#endif
