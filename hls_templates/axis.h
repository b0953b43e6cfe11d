// Between AXI4-Stream beats and words: on the bus each element sits, sign- or zero-extended, in a
// lane of LANE_BITS = 8, 16, 32 or 64 bits.
#ifndef DCT_AXIS_H
#define DCT_AXIS_H

// First, so that its AP_INT_MAX_W holds for the vendor's header too.
#include "word.h"

#include <ap_axi_sdata.h>
#include <hls_stream.h>

namespace dct {

// BEAT is ap_axis<LANES * LANE_BITS, 0, 0, 0>. `last` is ignored: the length of a frame is known.
template <class C, class BEAT>
void read_axis(hls::stream<BEAT>& in, hls::stream<word_t<typename C::element_t, C::LANES> >& out) {
    typedef typename C::element_t element;
    typedef ap_int<C::LANE_BITS> bus_lane;
beats:
    for (int beat = 0; beat < C::COUNT; ++beat) {
        DCT_HLS(pipeline II = 1)
        bus_lane wide[C::LANES];
        unpack<bus_lane>(in.read().data, wide);
        element values[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            values[lane] = wide[lane];
        }
        out.write(pack(values));
    }
}

// `last` marks the last beat of the last frame, so that one transfer of a DMA engine takes them
// all.
template <class C, class BEAT>
void write_axis(hls::stream<word_t<typename C::element_t, C::LANES> >& in, unsigned frame,
                unsigned frames, hls::stream<BEAT>& out) {
    typedef typename C::element_t element;
    typedef ap_int<C::LANE_BITS> bus_lane;
beats:
    for (int beat = 0; beat < C::COUNT; ++beat) {
        DCT_HLS(pipeline II = 1)
        element values[C::LANES];
        unpack(in.read(), values);
        bus_lane wide[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            wide[lane] = values[lane];
        }
        BEAT result;
        result.data = pack(wide);
        result.keep = -1;
        result.strb = -1;
        result.last = beat == C::COUNT - 1 && frame + 1 == frames;
        out.write(result);
    }
}

}  // namespace dct

#endif
