// The block products on tensor cores, one warp's share of them, from fragments and tiles.
//
// A product is c[RowTiles][Fragments][4]: RowTiles × 16 rows and Fragments × 8 columns; lane l holds, in
// fragment f of a row tile, rows l / 4 and l / 4 + 8 and columns 8 f + 2 (l % 4) + {0, 1}: the layout in
// which mma.sync leaves its result and takes, rounded, its left operand. One step of a product takes 32 bytes
// of a row of either operand: 16 columns, in F32 8.
//
// F32 has three products in TF32, 11 bits each, for one: with a = high + low, a b = low high + high low +
// high high. Tensor cores cut their sums toward zero, so each step's sum starts at 0 and is added in F32,
// rounded: Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores while surpassing the
// FP32 theoretical peak performance", arXiv 2203.03341.
#pragma once

#include "transposed_readers.cuh"

// Steps that a product takes along so many columns of its left operand, and what a warp has of that.
template <typename T, int RowTiles, int Columns>
using LeftOperand = uint32_t[RowTiles][Columns / stepColumns<T>][4];

// The steps that a product takes at each turn of its loop: all in 16 bits. In F32 they are so many
// instructions that two are about the best; the loop's count of steps is a multiple of it.
template <typename T, int Steps>
constexpr int stepsATurn = sizeof(T) == 4 ? 2 : Steps;

// The turns of such a loop: `turn` takes the first of its steps.
template <int Steps, int ATurn, typename Turn>
__device__ inline void forEachTurn(const Turn &turn) {
    static_assert(Steps % ATurn == 0);
    if constexpr (ATurn == Steps)
        turn(0);
    else
#pragma unroll 1
        for (int first = 0; first < Steps; first += ATurn) turn(first);
}

template <int Rows, int Columns>
__device__ inline void clear(float (&c)[Rows][Columns][4]) {
#pragma unroll
    for (int t = 0; t < Rows; ++t)
#pragma unroll
        for (int f = 0; f < Columns; ++f)
#pragma unroll
            for (int e = 0; e < 4; ++e) c[t][f][e] = 0;
}

// c[t][f] and c[t][f + 1] += a[t] bᵀ, one step; b is two fragments.
template <typename T, int RowTiles, int Fragments>
__device__ inline void multiplyFragments(
    float (&c)[RowTiles][Fragments][4], int f, const uint32_t (&a)[RowTiles][4], const uint32_t (&b)[4]) {
    if constexpr (sizeof(T) == 4) {
        uint32_t high[RowTiles][4], low[RowTiles][4], highB[4], lowB[4];
        float sum[RowTiles][2][4];
        clear(sum);
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e) Format<T>::split(a[t][e], high[t][e], low[t][e]);
#pragma unroll
        for (int e = 0; e < 4; ++e) Format<T>::split(b[e], highB[e], lowB[e]);
        // The small products first. Neighbours do not wait for each other.
        auto multiply = [&](const uint32_t (&left)[RowTiles][4], const uint32_t (&right)[4]) {
#pragma unroll
            for (int q = 0; q < 2; ++q)
#pragma unroll
                for (int t = 0; t < RowTiles; ++t)
                    Format<T>::multiplyAdd(sum[t][q], left[t], right[2 * q], right[2 * q + 1]);
        };
        multiply(low, highB);
        multiply(high, lowB);
        multiply(high, highB);
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int q = 0; q < 2; ++q)
#pragma unroll
                for (int e = 0; e < 4; ++e) c[t][f + q][e] += sum[t][q][e];
    } else {
#pragma unroll
        for (int t = 0; t < RowTiles; ++t) {
            Format<T>::multiplyAdd(c[t][f], a[t], b[0], b[1]);
            Format<T>::multiplyAdd(c[t][f + 1], a[t], b[2], b[3]);
        }
    }
}

// c += A Bᵀ over one step: A from registers, B [8 Fragments][…] by rows.
template <typename T, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyStep(
    float (&c)[RowTiles][Fragments][4], const uint32_t (&a)[RowTiles][4], const FragmentReader<T, Columns> &B,
    int k) {
#pragma unroll
    for (int f = 0; f < Fragments; f += 2) {
        uint32_t b[4];
        loadMatrices(b, B.address(k, 8 * f));
        multiplyFragments<T>(c, f, a, b);
    }
}

// The left operands of one step, from 16 RowTiles rows.
template <typename T, int RowTiles, int Columns>
__device__ inline void loadOperands(uint32_t (&a)[RowTiles][4], const FragmentReader<T, Columns> &A, int k) {
#pragma unroll
    for (int t = 0; t < RowTiles; ++t) loadMatrices(a[t], A.address(k, 16 * t));
}

// c += A Bᵀ over Steps, ATurn at each turn of the loop: A [16 RowTiles][…] and B [8 Fragments][…], both by
// rows.
template <typename T, int Steps, int ATurn = stepsATurn<T, Steps>, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyRows(
    float (&c)[RowTiles][Fragments][4], const FragmentReader<T, Columns> &A,
    const FragmentReader<T, Columns> &B) {
    forEachTurn<Steps, ATurn>([&](int first) {
        const auto left = A.fromStep(first), right = B.fromStep(first);
#pragma unroll
        for (int k = 0; k < ATurn; ++k) {
            uint32_t a[RowTiles][4];
            loadOperands(a, left, k);
            multiplyStep<T>(c, a, right, k);
        }
    });
}

// The same with all of A in registers.
template <typename T, int Steps, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyRows(
    float (&c)[RowTiles][Fragments][4], const uint32_t (&a)[Steps][RowTiles][4],
    const FragmentReader<T, Columns> &B) {
#pragma unroll
    for (int k = 0; k < Steps; ++k) multiplyStep<T>(c, a[k], B, k);
}

// c += A B over one step: A from registers.
template <typename T, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyTransposed(
    float (&c)[RowTiles][Fragments][4], const uint32_t (&a)[RowTiles][4],
    const TransposedReader<T, Columns> &B, int k) {
    static_assert(Fragments % 2 == 0);
#pragma unroll
    for (int f = 0; f < Fragments; f += 2) {
        uint32_t b[4];
        B.load(b, k, f / 2);
        multiplyFragments<T>(c, f, a, b);
    }
}

// c += A B over Steps: A from registers, B [steps][8 Fragments] read transposed.
template <typename T, int Steps, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyRegisters(
    float (&c)[RowTiles][Fragments][4], const uint32_t (&a)[RowTiles][Steps][4],
    const TransposedReader<T, Columns> &B) {
#pragma unroll
    for (int k = 0; k < Steps; ++k) {
        uint32_t step[RowTiles][4];
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e) step[t][e] = a[t][k][e];
        multiplyTransposed<T>(c, step, B, k);
    }
}

// c += A B over Steps: A [16 RowTiles][…] by rows, B [steps][8 Fragments] read transposed. In F32 the columns
// of A lie as storeOperand leaves them.
template <typename T, int Steps, int RowTiles, int Fragments, int ColumnsA, int ColumnsB>
__device__ inline void multiplyColumns(
    float (&c)[RowTiles][Fragments][4], const FragmentReader<T, ColumnsA> &A,
    const TransposedReader<T, ColumnsB> &B) {
    constexpr int aTurn = stepsATurn<T, Steps>;
    forEachTurn<Steps, aTurn>([&](int first) {
        const auto left = A.fromStep(first);
        const auto right = B.advanced(first * TransposedReader<T, ColumnsB>::stepBytes);
#pragma unroll
        for (int k = 0; k < aTurn; ++k) {
            uint32_t a[RowTiles][4];
            loadOperands(a, left, k);
            multiplyTransposed<T>(c, a, right, k);
        }
    });
}

// One step of a left operand from a product's fragments, rounded.
template <typename T, int Fragments>
__device__ inline void roundFragments(uint32_t (&a)[4], const float (&c)[Fragments][4], int k) {
    if constexpr (sizeof(T) == 4) {
#pragma unroll
        for (int e = 0; e < 4; ++e) a[e] = __float_as_uint(c[k][e / 2 + e % 2 * 2]);
    } else {
        a[0] = Format<T>::pack(c[2 * k][0], c[2 * k][1]);
        a[1] = Format<T>::pack(c[2 * k][2], c[2 * k][3]);
        a[2] = Format<T>::pack(c[2 * k + 1][0], c[2 * k + 1][1]);
        a[3] = Format<T>::pack(c[2 * k + 1][2], c[2 * k + 1][3]);
    }
}

// All fragments of a product as the left operand of the next one.
template <typename T, int RowTiles, int Fragments, int Steps>
__device__ inline void packOperand(
    uint32_t (&a)[RowTiles][Steps][4], const float (&c)[RowTiles][Fragments][4]) {
#pragma unroll
    for (int t = 0; t < RowTiles; ++t)
#pragma unroll
        for (int k = 0; k < Steps; ++k) roundFragments<T>(a[t][k], c[t], k);
}

// Writes a left operand to a tile, from where `tile` reads one. In F32 that is another order of the columns
// of each step: even ones first.
template <typename T, int Columns, int RowTiles, int Steps>
__device__ inline void storeOperand(
    const FragmentReader<T, Columns> &tile, const uint32_t (&a)[RowTiles][Steps][4]) {
#pragma unroll
    for (int t = 0; t < RowTiles; ++t)
#pragma unroll
        for (int k = 0; k < Steps; ++k) storeMatrices(tile.address(k, 16 * t), a[t][k]);
}

// The column that an element of a lane's fragment has in a product c += A B; e: 0 or 1, of either row. In F32
// a lane has of two fragments columns 4 (l % 4) to 4 (l % 4) + 3: those of B that it would read, element
// 2 e + q in fragment q.
template <typename T>
__device__ inline int columnOfProduct(int fragment, int e, int lane) {
    if (sizeof(T) == 4) return fragment / 2 * 16 + 4 * (lane % 4) + 2 * e + fragment % 2;
    return 8 * fragment + 2 * (lane % 4) + e;
}

// Rounds fragments of a product c += A B, times `factor`, into a tile from (row, column) on.
template <typename T, int Columns, int RowTiles, int Fragments>
__device__ inline void storeFragments(
    uint32_t tile, const float (&c)[RowTiles][Fragments][4], float factor, int row, int column, int lane) {
    // Of what the lane has of row r of a row tile from fragment f on.
    auto address = [&](int t, int r, int f) {
        const int first = columnOfProduct<T>(f, 0, lane);
        return tile + SharedTile<T, Columns>::elementOffset(row + 16 * t + 8 * r + lane / 4, column + first);
    };
#pragma unroll
    for (int t = 0; t < RowTiles; ++t)
#pragma unroll
        for (int r = 0; r < 2; ++r)
            if constexpr (sizeof(T) == 4) {
#pragma unroll
                for (int f = 0; f < Fragments; f += 2) {
                    uint32_t words[4];
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        words[e] = __float_as_uint(c[t][f + e % 2][2 * r + e / 2] * factor);
                    storeShared(address(t, r, f), words);
                }
            } else {
#pragma unroll
                for (int f = 0; f < Fragments; ++f)
                    storeShared32(
                        address(t, r, f),
                        Format<T>::pack(c[t][f][2 * r] * factor, c[t][f][2 * r + 1] * factor));
            }
}
