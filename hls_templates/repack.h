// Changes the number of lanes of a stream; the larger number is a multiple of the smaller one.
#ifndef DCT_REPACK_H
#define DCT_REPACK_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

template <class C>
void repack(hls::stream<ap_int<C::IN_LANES * C::BITS> >& in,
            hls::stream<ap_int<C::OUT_LANES * C::BITS> >& out) {
    const bool SPLITS = C::IN_LANES >= C::OUT_LANES;
    const int NARROW = SPLITS ? C::OUT_LANES : C::IN_LANES;
    const int WIDE = SPLITS ? C::IN_LANES : C::OUT_LANES;
    static_assert(WIDE % NARROW == 0, "one number of lanes must divide the other");
    static_assert(C::COUNT % WIDE == 0, "a frame must be a whole number of words");
    const int PARTS = WIDE / NARROW;
    typedef ap_int<NARROW * C::BITS> narrow;

    ap_int<WIDE * C::BITS> wide = 0;
words:
    for (int word = 0; word < C::COUNT / WIDE; ++word) {
    parts:
        for (int part = 0; part < PARTS; ++part) {
            DCT_HLS(pipeline II = 1)
            // A shift register: constant lanes instead of a multiplexer.
            if (PARTS > 1) wide >>= NARROW * C::BITS;
            if (SPLITS) {
                if (part == 0) wide = in.read();
                out.write(get_lane<narrow>(wide, 0));
            } else {
                set_lane<narrow>(wide, PARTS - 1, in.read());
                if (part == PARTS - 1) out.write(wide);
            }
        }
    }
}

}  // namespace dct

#endif
