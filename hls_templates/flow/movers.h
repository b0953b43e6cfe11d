// Between memory and AXI4-Stream on accelerator cards: one call moves `beats` beats, which lie in
// memory as the stream has them. The last beat read from memory carries TLAST.
#ifndef DCT_MOVERS_H
#define DCT_MOVERS_H

#include "word.h"

#include <ap_axi_sdata.h>
#include <hls_stream.h>

namespace dct {

template <int BITS>
void memory_to_stream(const ap_uint<BITS>* memory, unsigned beats,
                      hls::stream<ap_axis<BITS, 0, 0, 0> >& stream) {
beats:
    for (unsigned beat = 0; beat < beats; ++beat) {
        DCT_HLS(pipeline II = 1)
        ap_axis<BITS, 0, 0, 0> one;
        one.data = memory[beat];
        one.keep = -1;
        one.strb = -1;
        one.last = beat + 1 == beats;
        stream.write(one);
    }
}

template <int BITS>
void stream_to_memory(ap_uint<BITS>* memory, unsigned beats,
                      hls::stream<ap_axis<BITS, 0, 0, 0> >& stream) {
beats:
    for (unsigned beat = 0; beat < beats; ++beat) {
        DCT_HLS(pipeline II = 1)
        memory[beat] = stream.read().data;
    }
}

}  // namespace dct

#endif
