// The integer bases of the packing (toolchain/packing/basis.py) as adders: no multiplier, every
// constant is known to the compiler, and the halves that rows share are added once.
#ifndef DCT_BASIS_H
#define DCT_BASIS_H

#include "word.h"

namespace dct {

// basis<SIZE>::entry(u, x): basis vector u at position x. Rows with even u are symmetric, those
// with odd u antisymmetric.
template <int SIZE>
struct basis;

template <>
struct basis<1> {
    static constexpr int entry(int u, int x) {
        const int table[1][1] = {{1}};
        return table[u][x];
    }
};

template <>
struct basis<2> {
    static constexpr int entry(int u, int x) {
        const int table[2][2] = {{1, 1}, {1, -1}};
        return table[u][x];
    }
};

template <>
struct basis<3> {
    static constexpr int entry(int u, int x) {
        const int table[3][3] = {{1, 1, 1}, {1, 0, -1}, {1, -2, 1}};
        return table[u][x];
    }
};

template <>
struct basis<4> {
    static constexpr int entry(int u, int x) {
        const int table[4][4] = {{1, 1, 1, 1}, {2, 1, -1, -2}, {1, -1, -1, 1}, {1, -2, 2, -1}};
        return table[u][x];
    }
};

template <>
struct basis<5> {
    static constexpr int entry(int u, int x) {
        const int table[5][5] = {{1, 1, 1, 1, 1},
                                 {2, 1, 0, -1, -2},
                                 {2, -1, -2, -1, 2},
                                 {1, -2, 0, 2, -1},
                                 {1, -4, 6, -4, 1}};
        return table[u][x];
    }
};

template <>
struct basis<6> {
    static constexpr int entry(int u, int x) {
        const int table[6][6] = {{1, 1, 1, 1, 1, 1},   {8, 6, 2, -2, -6, -8},
                                 {7, 0, -7, -7, 0, 7}, {6, -6, -6, 6, 6, -6},
                                 {4, -8, 4, 4, -8, 4}, {2, -6, 8, -8, 6, -2}};
        return table[u][x];
    }
};

template <>
struct basis<7> {
    static constexpr int entry(int u, int x) {
        const int table[7][7] = {{1, 1, 1, 1, 1, 1, 1},     {8, 6, 3, 0, -3, -6, -8},
                                 {7, 2, -5, -8, -5, 2, 7},  {6, -3, -8, 0, 8, 3, -6},
                                 {5, -7, -2, 8, -2, -7, 5}, {3, -8, 6, 0, -6, 8, -3},
                                 {2, -5, 7, -8, 7, -5, 2}};
        return table[u][x];
    }
};

template <>
struct basis<8> {
    static constexpr int entry(int u, int x) {
        const int table[8][8] = {{1, 1, 1, 1, 1, 1, 1, 1},     {8, 7, 4, 2, -2, -4, -7, -8},
                                 {7, 3, -3, -7, -7, -3, 3, 7}, {7, -2, -8, -4, 4, 8, 2, -7},
                                 {6, -6, -6, 6, 6, -6, -6, 6}, {4, -8, 2, 7, -7, -2, 8, -4},
                                 {3, -7, 7, -3, -3, 7, -7, 3}, {2, -4, 7, -8, 8, -7, 4, -2}};
        return table[u][x];
    }
};

template <>
struct basis<9> {
    static constexpr int entry(int u, int x) {
        const int table[9][9] = {{1, 1, 1, 1, 1, 1, 1, 1, 1},      {8, 7, 5, 3, 0, -3, -5, -7, -8},
                                 {8, 4, -1, -6, -8, -6, -1, 4, 8}, {7, 0, -7, -7, 0, 7, 7, 0, -7},
                                 {6, -4, -8, 1, 8, 1, -8, -4, 6},  {5, -7, -3, 8, 0, -8, 3, 7, -5},
                                 {4, -8, 4, 4, -8, 4, 4, -8, 4},   {3, -7, 8, -5, 0, 5, -8, 7, -3},
                                 {1, -4, 6, -8, 8, -8, 6, -4, 1}};
        return table[u][x];
    }
};

template <>
struct basis<10> {
    static constexpr int entry(int u, int x) {
        const int table[10][10] = {
            {1, 1, 1, 1, 1, 1, 1, 1, 1, 1},       {8, 7, 6, 4, 1, -1, -4, -6, -7, -8},
            {8, 5, 0, -5, -8, -8, -5, 0, 5, 8},   {7, 1, -6, -8, -4, 4, 8, 6, -1, -7},
            {6, -2, -8, -2, 6, 6, -2, -8, -2, 6}, {6, -6, -6, 6, 6, -6, -6, 6, 6, -6},
            {5, -8, 0, 8, -5, -5, 8, 0, -8, 5},   {4, -8, 6, 1, -7, 7, -1, -6, 8, -4},
            {2, -6, 8, -6, 2, 2, -6, 8, -6, 2},   {1, -4, 6, -7, 8, -8, 7, -6, 4, -1}};
        return table[u][x];
    }
};

template <>
struct basis<11> {
    static constexpr int entry(int u, int x) {
        const int table[11][11] = {
            {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},       {8, 7, 6, 4, 2, 0, -2, -4, -6, -7, -8},
            {8, 5, 1, -3, -7, -8, -7, -3, 1, 5, 8},  {7, 2, -4, -8, -6, 0, 6, 8, 4, -2, -7},
            {7, -1, -8, -5, 3, 8, 3, -5, -8, -1, 7}, {6, -4, -7, 2, 8, 0, -8, -2, 7, 4, -6},
            {5, -7, -3, 8, 1, -8, 1, 8, -3, -7, 5},  {4, -8, 2, 6, -7, 0, 7, -6, -2, 8, -4},
            {3, -8, 7, -1, -5, 8, -5, -1, 7, -8, 3}, {2, -6, 8, -7, 4, 0, -4, 7, -8, 6, -2},
            {1, -3, 5, -7, 8, -8, 8, -7, 5, -3, 1}};
        return table[u][x];
    }
};

// Left shifts of the frequencies, in order: wires.
template <int... SHIFTS>
struct shift_list {
    static constexpr int at(int frequency) {
        const int all[] = {SHIFTS...};
        return all[frequency];
    }
};

namespace detail {

// FACTOR * x by shifts and additions, one addition less than FACTOR has signed digits.
template <int FACTOR>
struct multiple {
    static_assert(FACTOR > 1, "signs are the caller's");
    static const bool EVEN = FACTOR % 2 == 0;
    static const bool ABOVE = FACTOR % 4 == 1;
    static const int REST = EVEN ? FACTOR / 2 : ABOVE ? FACTOR - 1 : FACTOR + 1;

    template <class T>
    static T of(T x) {
        DCT_HLS(inline)
        const T rest = multiple<REST>::of(x);
        return EVEN ? T(rest << 1) : ABOVE ? T(rest + x) : T(rest - x);
    }
};

template <>
struct multiple<1> {
    template <class T>
    static T of(T x) {
        DCT_HLS(inline)
        return x;
    }
};

// sum + FACTOR * x.
template <int FACTOR>
struct term {
    template <class T>
    static T added(T sum, T x) {
        DCT_HLS(inline)
        const T product = multiple<(FACTOR < 0 ? -FACTOR : FACTOR)>::of(x);
        return FACTOR < 0 ? T(sum - product) : T(sum + product);
    }
};

template <>
struct term<0> {
    template <class T>
    static T added(T sum, T) {
        DCT_HLS(inline)
        return sum;
    }
};

// The product of row U with the first COUNT folded inputs.
template <int SIZE, int U, int COUNT>
struct row_product {
    template <class T>
    static T of(const T (&folded)[(SIZE + 1) / 2]) {
        DCT_HLS(inline)
        return term<basis<SIZE>::entry(U, COUNT - 1)>::added(
            row_product<SIZE, U, COUNT - 1>::of(folded), folded[COUNT - 1]);
    }
};

template <int SIZE, int U>
struct row_product<SIZE, U, 0> {
    template <class T>
    static T of(const T (&)[(SIZE + 1) / 2]) {
        DCT_HLS(inline)
        return T(0);
    }
};

// The first COUNT rows.
template <int SIZE, int COUNT>
struct row_products {
    template <class T>
    static void of(const T (&same)[(SIZE + 1) / 2], const T (&opposite)[(SIZE + 1) / 2],
                   T (&result)[SIZE]) {
        DCT_HLS(inline)
        row_products<SIZE, COUNT - 1>::of(same, opposite, result);
        const int U = COUNT - 1;
        result[U] = row_product<SIZE, U, (SIZE + 1) / 2>::of(U % 2 ? opposite : same);
    }
};

template <int SIZE>
struct row_products<SIZE, 0> {
    template <class T>
    static void of(const T (&)[(SIZE + 1) / 2], const T (&)[(SIZE + 1) / 2], T (&)[SIZE]) {
        DCT_HLS(inline)
    }
};

// result[f] = z[f] << shift of f, for the first COUNT frequencies.
template <class SHIFTS, int COUNT>
struct shifted {
    template <class S, class T, int SIZE>
    static void of(const S (&z)[SIZE], T (&result)[SIZE]) {
        DCT_HLS(inline)
        shifted<SHIFTS, COUNT - 1>::of(z, result);
        result[COUNT - 1] = T(z[COUNT - 1]) << SHIFTS::at(COUNT - 1);
    }
};

template <class SHIFTS>
struct shifted<SHIFTS, 0> {
    template <class S, class T, int SIZE>
    static void of(const S (&)[SIZE], T (&)[SIZE]) {
        DCT_HLS(inline)
    }
};

// result = basis<SIZE> x. T may wrap on the way: it holds the result.
template <int SIZE, class T>
void transform(const T (&x)[SIZE], T (&result)[SIZE]) {
    DCT_HLS(inline)
    const int HALF = (SIZE + 1) / 2;
    T same[HALF], opposite[HALF];
    DCT_HLS(array_partition variable = same complete)
    DCT_HLS(array_partition variable = opposite complete)
fold:
    for (int i = 0; i < HALF; ++i) {
        DCT_HLS(unroll)
        const bool middle = i == SIZE - 1 - i;
        same[i] = middle ? x[i] : T(x[i] + x[SIZE - 1 - i]);
        opposite[i] = middle ? T(0) : T(x[i] - x[SIZE - 1 - i]);
    }
    row_products<SIZE, SIZE>::of(same, opposite, result);
}

}  // namespace detail

// The horizontal half of a separable transform and the shifts: columns[u][x] has been transformed
// along its column; result[u * COLUMNS + v] is frequency (u, v).
template <class SHIFTS, class S, class V, class T, int ROWS, int COLUMNS>
void along_rows(const V (&columns)[ROWS][COLUMNS], T (&result)[ROWS * COLUMNS]) {
    DCT_HLS(inline)
    S sums[ROWS * COLUMNS];
    DCT_HLS(array_partition variable = sums complete)
transform_rows:
    for (int u = 0; u < ROWS; ++u) {
        DCT_HLS(unroll)
        S row[COLUMNS], frequencies[COLUMNS];
        DCT_HLS(array_partition variable = row complete)
        DCT_HLS(array_partition variable = frequencies complete)
    take_row:
        for (int x = 0; x < COLUMNS; ++x) {
            DCT_HLS(unroll)
            row[x] = columns[u][x];
        }
        detail::transform<COLUMNS>(row, frequencies);
    put_row:
        for (int v = 0; v < COLUMNS; ++v) {
            DCT_HLS(unroll)
            sums[u * COLUMNS + v] = frequencies[v];
        }
    }
    detail::shifted<SHIFTS, ROWS * COLUMNS>::of(sums, result);
}

}  // namespace dct

#endif
