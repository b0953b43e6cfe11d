// Pictures of another size: every output is a combination of ROW_TAPS x COLUMN_TAPS inputs that lie
// side by side, whose first row and column a table gives. Rows are kept until no output needs them.
#ifndef DCT_OPS_RESAMPLE_H
#define DCT_OPS_RESAMPLE_H

#include <hls_stream.h>

#include "storage.h"
#include "word.h"

namespace dct {

template <class C, class R, class S, class U, class V>
void resample(hls::stream<word_t<typename C::input_t, C::LANES> >& in, const R (&rows)[C::OUT_ROWS],
              const S (&columns)[C::OUT_COLUMNS], const U (&row_weights)[C::OUT_ROWS * C::ROW_TAPS],
              const V (&column_weights)[C::OUT_COLUMNS * C::COLUMN_TAPS],
              hls::stream<word_t<typename C::output_t, C::LANES> >& out) {
    typedef word_t<typename C::input_t, C::LANES> word_in;
    typedef typename C::output_t output;
    const int LINE = C::IN_COLUMNS * C::WORDS;
    // All taps of an output are read in one cycle.
    DCT_MEMORY word_in lines[C::ROW_TAPS][C::COLUMN_TAPS][LINE];
    DCT_HLS(array_partition variable = lines complete dim = 1)
    DCT_HLS(array_partition variable = lines complete dim = 2)
    if (ultra_ram<C>::lines) {
        DCT_HLS(bind_storage variable = lines type = ram_s2p impl = uram)
    }

    int known = 0;
output_rows:
    for (int row = 0; row <= C::OUT_ROWS; ++row) {
        const int first = row < C::OUT_ROWS ? int(rows[row]) : 0;
        const int wanted = row < C::OUT_ROWS ? first + C::ROW_TAPS : C::IN_ROWS;
    input_rows:
        for (int more = 0; more < C::IN_ROWS; ++more) {
            if (known >= wanted) break;
        input_words:
            for (int k = 0; k < LINE; ++k) {
                DCT_HLS(pipeline II = 1)
                const word_in word = in.read();
            row_places:
                for (int tap = 0; tap < C::ROW_TAPS; ++tap) {
                    DCT_HLS(unroll)
                    if (known % C::ROW_TAPS != tap) continue;
                column_copies:
                    for (int copy = 0; copy < C::COLUMN_TAPS; ++copy) {
                        DCT_HLS(unroll)
                        lines[tap][copy][k] = word;
                    }
                }
            }
            ++known;
        }
        if (row == C::OUT_ROWS) break;
    output_columns:
        for (int column = 0; column < C::OUT_COLUMNS; ++column) {
        output_words:
            for (int word = 0; word < C::WORDS; ++word) {
                DCT_HLS(pipeline II = 1)
                output sums[C::LANES];
            clear:
                for (int lane = 0; lane < C::LANES; ++lane) {
                    DCT_HLS(unroll)
                    sums[lane] = 0;
                }
            row_taps:
                for (int s = 0; s < C::ROW_TAPS; ++s) {
                    DCT_HLS(unroll)
                    const int place = (first + s) % C::ROW_TAPS;
                    const typename C::row_t u = row_weights[row * C::ROW_TAPS + s];
                column_taps:
                    for (int t = 0; t < C::COLUMN_TAPS; ++t) {
                        DCT_HLS(unroll)
                        const typename C::column_t v = column_weights[column * C::COLUMN_TAPS + t];
                        typename C::input_t x[C::LANES];
                        unpack(lines[place][t][(int(columns[column]) + t) * C::WORDS + word], x);
                    lanes:
                        for (int lane = 0; lane < C::LANES; ++lane) {
                            DCT_HLS(unroll)
                            sums[lane] += u * v * x[lane];
                        }
                    }
                }
                out.write(pack(sums));
            }
        }
    }
}

}  // namespace dct

#endif
