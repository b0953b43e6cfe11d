// Duplicates a stream for two or three consumers.
#ifndef DCT_FORK_H
#define DCT_FORK_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

template <class C>
void fork(hls::stream<ap_int<C::BITS> >& in, hls::stream<ap_int<C::BITS> >& out0,
          hls::stream<ap_int<C::BITS> >& out1) {
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        const ap_int<C::BITS> value = in.read();
        out0.write(value);
        out1.write(value);
    }
}

template <class C>
void fork(hls::stream<ap_int<C::BITS> >& in, hls::stream<ap_int<C::BITS> >& out0,
          hls::stream<ap_int<C::BITS> >& out1, hls::stream<ap_int<C::BITS> >& out2) {
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        const ap_int<C::BITS> value = in.read();
        out0.write(value);
        out1.write(value);
        out2.write(value);
    }
}

}  // namespace dct

#endif
