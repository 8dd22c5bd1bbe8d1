// The block products on tensor cores, one warp's share of them, from fragments and tiles of 16-bit elements.
//
// A product is c[RowTiles][Fragments][4]: RowTiles × 16 rows and Fragments × 8 columns; lane l holds, in
// fragment f of a row tile, rows l / 4 and l / 4 + 8 and columns 8 f + 2 (l % 4) + {0, 1}: the layout in
// which mma.sync leaves its result and takes, rounded, its left operand.
#pragma once

#include "shared_tile.cuh"

template <int Rows, int Columns>
__device__ inline void clear(float (&c)[Rows][Columns][4]) {
#pragma unroll
    for (int t = 0; t < Rows; ++t)
#pragma unroll
        for (int f = 0; f < Columns; ++f)
#pragma unroll
            for (int e = 0; e < 4; ++e) c[t][f][e] = 0;
}

// c += A Bᵀ over one step of 16 columns: A from registers, B [8 Fragments][…] by rows.
template <typename T, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyStep(
    float (&c)[RowTiles][Fragments][4], const uint32_t (&a)[RowTiles][4], const FragmentReader<Columns> &B,
    int k) {
#pragma unroll
    for (int f = 0; f < Fragments; f += 2) {
        uint32_t b[4];
        loadMatrices(b, B.address(k, 8 * f));
#pragma unroll
        for (int t = 0; t < RowTiles; ++t) {
            Format<T>::multiplyAdd(c[t][f], a[t], b[0], b[1]);
            Format<T>::multiplyAdd(c[t][f + 1], a[t], b[2], b[3]);
        }
    }
}

// The left operands of one step of 16 columns, from 16 RowTiles rows.
template <int RowTiles, int Columns>
__device__ inline void loadOperands(uint32_t (&a)[RowTiles][4], const FragmentReader<Columns> &A, int k) {
#pragma unroll
    for (int t = 0; t < RowTiles; ++t) loadMatrices(a[t], A.address(k, 16 * t));
}

// c += A Bᵀ over Steps × 16 columns: A [16 RowTiles][…] and B [8 Fragments][…], both by rows.
template <typename T, int Steps, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyRows(
    float (&c)[RowTiles][Fragments][4], const FragmentReader<Columns> &A, const FragmentReader<Columns> &B) {
#pragma unroll
    for (int k = 0; k < Steps; ++k) {
        uint32_t a[RowTiles][4];
        loadOperands(a, A, k);
        multiplyStep<T>(c, a, B, k);
    }
}

// The same with all of A in registers.
template <typename T, int Steps, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyRows(
    float (&c)[RowTiles][Fragments][4], const uint32_t (&a)[Steps][RowTiles][4],
    const FragmentReader<Columns> &B) {
#pragma unroll
    for (int k = 0; k < Steps; ++k) multiplyStep<T>(c, a[k], B, k);
}

// c += A B over Steps × 16 rows of B: A from registers, B [16 Steps][8 Fragments] read transposed.
template <typename T, int Steps, int RowTiles, int Fragments, int Columns>
__device__ inline void multiplyRegisters(
    float (&c)[RowTiles][Fragments][4], const uint32_t (&a)[RowTiles][Steps][4],
    const FragmentReader<Columns> &B) {
#pragma unroll
    for (int k = 0; k < Steps; ++k)
#pragma unroll
        for (int f = 0; f < Fragments; f += 2) {
            uint32_t b[4];
            loadMatricesTransposed(b, B.address(f / 2, 16 * k));
#pragma unroll
            for (int t = 0; t < RowTiles; ++t) {
                Format<T>::multiplyAdd(c[t][f], a[t][k], b[0], b[1]);
                Format<T>::multiplyAdd(c[t][f + 1], a[t][k], b[2], b[3]);
            }
        }
}

// c += A B over Steps × 16 columns of A: A [16 RowTiles][…] by rows, B [16 Steps][8 Fragments] read
// transposed.
template <typename T, int Steps, int RowTiles, int Fragments, int ColumnsA, int ColumnsB>
__device__ inline void multiplyColumns(
    float (&c)[RowTiles][Fragments][4], const FragmentReader<ColumnsA> &A,
    const FragmentReader<ColumnsB> &B) {
#pragma unroll
    for (int k = 0; k < Steps; ++k) {
        uint32_t a[RowTiles][4];
        loadOperands(a, A, k);
#pragma unroll
        for (int f = 0; f < Fragments; f += 2) {
            uint32_t b[4];
            loadMatricesTransposed(b, B.address(f / 2, 16 * k));
#pragma unroll
            for (int t = 0; t < RowTiles; ++t) {
                Format<T>::multiplyAdd(c[t][f], a[t], b[0], b[1]);
                Format<T>::multiplyAdd(c[t][f + 1], a[t], b[2], b[3]);
            }
        }
    }
}

// Two neighbouring fragments of a product, rounded, as 16 columns of a left operand.
template <typename T>
__device__ inline void roundFragments(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
    a[0] = Format<T>::pack(left[0], left[1]);
    a[1] = Format<T>::pack(left[2], left[3]);
    a[2] = Format<T>::pack(right[0], right[1]);
    a[3] = Format<T>::pack(right[2], right[3]);
}

// All fragments of a product as the left operand of the next one.
template <typename T, int RowTiles, int Fragments>
__device__ inline void packOperand(
    uint32_t (&a)[RowTiles][Fragments / 2][4], const float (&c)[RowTiles][Fragments][4]) {
#pragma unroll
    for (int t = 0; t < RowTiles; ++t)
#pragma unroll
        for (int k = 0; k < Fragments / 2; ++k) roundFragments<T>(a[t][k], c[t][2 * k], c[t][2 * k + 1]);
}

// Writes a left operand to a tile, from where `tile` reads one.
template <int Columns, int RowTiles, int Steps>
__device__ inline void storeOperand(
    const FragmentReader<Columns> &tile, const uint32_t (&a)[RowTiles][Steps][4]) {
#pragma unroll
    for (int t = 0; t < RowTiles; ++t)
#pragma unroll
        for (int k = 0; k < Steps; ++k) storeMatrices(tile.address(k, 16 * t), a[t][k]);
}

// Rounds fragments, times `factor`, into a tile from (row, column) on.
template <typename T, int Columns, int RowTiles, int Fragments>
__device__ inline void storeFragments(
    uint32_t tile, const float (&c)[RowTiles][Fragments][4], float factor, int row, int column, int lane) {
#pragma unroll
    for (int t = 0; t < RowTiles; ++t)
#pragma unroll
        for (int f = 0; f < Fragments; ++f)
#pragma unroll
            for (int r = 0; r < 2; ++r)
                storeShared32(
                    tile + SharedTile<Columns>::elementOffset(
                               row + 16 * t + 8 * r + lane / 4, column + 8 * f + 2 * (lane % 4)),
                    Format<T>::pack(c[t][f][2 * r] * factor, c[t][f][2 * r + 1] * factor));
}
