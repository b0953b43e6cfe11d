// Stand-in for the vendor's AXI4-Stream beat in C simulation with g++.
#ifndef DCT_SIM_AP_AXI_SDATA_H
#define DCT_SIM_AP_AXI_SDATA_H

#include "word.h"

template <int D, int U, int TI, int TD>
struct ap_axis {
    static_assert(U == 0 && TI == 0 && TD == 0, "side channels are not simulated");

    ap_int<D> data;
    ap_uint<(D + 7) / 8> keep;
    ap_uint<(D + 7) / 8> strb;
    ap_uint<1> last;
};

#endif
