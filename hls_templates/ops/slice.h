#ifndef DCT_OPS_SLICE_H
#define DCT_OPS_SLICE_H

#include <hls_stream.h>

#include "word.h"

namespace dct {

namespace detail {

// Selects START, START + STEP, ... (COUNT of them) of the indices 0 .. SIZE - 1, visited in order
// and over again.
template <int SIZE, int START, int STEP, int COUNT>
struct selector {
    int next;

    selector() : next(START) {}
    bool selects(int index) const { return index == next && index <= START + (COUNT - 1) * STEP; }
    void leave(int index) {
        if (index == SIZE - 1)
            next = START;
        else if (index == next)
            next += STEP;
    }
};

}  // namespace detail

// The words START_i, START_i + STEP_i, ... (OUT_i of them) of each dimension of a box.
template <class C>
void slice(hls::stream<ap_int<C::LANES * C::BITS> >& in,
           hls::stream<ap_int<C::LANES * C::BITS> >& out) {
    detail::selector<C::IN_0, C::START_0, C::STEP_0, C::OUT_0> selected_0;
    detail::selector<C::IN_1, C::START_1, C::STEP_1, C::OUT_1> selected_1;
    detail::selector<C::IN_2, C::START_2, C::STEP_2, C::OUT_2> selected_2;
outer:
    for (int i = 0; i < C::IN_0; ++i) {
    middle:
        for (int j = 0; j < C::IN_1; ++j) {
        inner:
            for (int k = 0; k < C::IN_2; ++k) {
                DCT_HLS(pipeline II = 1)
                const ap_int<C::LANES * C::BITS> word = in.read();
                if (selected_0.selects(i) && selected_1.selects(j) && selected_2.selects(k))
                    out.write(word);
                selected_2.leave(k);
                if (k == C::IN_2 - 1) {
                    selected_1.leave(j);
                    if (j == C::IN_1 - 1) selected_0.leave(i);
                }
            }
        }
    }
}

}  // namespace dct

#endif
