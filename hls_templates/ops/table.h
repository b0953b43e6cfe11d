#ifndef DCT_OPS_TABLE_H
#define DCT_OPS_TABLE_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

// entries[x], x being the raw bits of the input taken as unsigned.
template <class C, class E>
void table(hls::stream<word_t<typename C::input_t, C::LANES> >& in, const E (&entries)[C::SIZE],
           hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    // Every two lanes need a copy of the table, a memory having two ports.
    DCT_HLS(bind_storage variable = entries type = rom_np)
    typedef ap_uint<bits<typename C::input_t>::value> index;
words:
    for (int word = 0; word < C::COUNT; ++word) {
        DCT_HLS(pipeline II = 1)
        index x[C::LANES];
        unpack(in.read(), x);
        typename C::output_t y[C::LANES];
    lanes:
        for (int lane = 0; lane < C::LANES; ++lane) {
            DCT_HLS(unroll)
            y[lane] = entries[x[lane].to_uint()];
        }
        out.write(pack(y));
    }
}

}  // namespace dct

#endif
