// The products of FlashAttention-2 in F32 on exact FFMAs, each thread's share of operands in shared memory.
//
// The register file has two banks, of the even and the odd registers, and each gives one operand a cycle. An
// FFMA reads three, so that it takes one cycle only if it keeps one from the FFMA before and finds the other
// two in different banks. A vector of four that is read along k has all rows' values for one k in registers
// of one bank; read across k, neighbours are in different banks, as their sums can be. So at least one
// operand of every product is read across k, and the loops run through it while one value of the other is
// kept, back and forth, so that at the turn the first is kept.
//
// The operands of the next k are asked for before those of this one are multiplied, also from one round of a
// loop to the next: in the last round the first are asked for once more and not used. Loops so written can be
// short, 4 or 8 k, and ptxas places their sums well: 10 to 25 % of the FFMAs lose a cycle to the banks, where
// loops without it lost up to 70 %, depending on the head size.
#pragma once

#include "float_tile_steps.cuh"

__device__ inline float4 loadFour(const float *source) { return *reinterpret_cast<const float4 *>(source); }
__device__ inline void storeFour(float *target, const float (&x)[4]) {
    *reinterpret_cast<float4 *>(target) = make_float4(x[0], x[1], x[2], x[3]);
}

// Four neighbours to a row of a tensor, those of them that it has.
__device__ inline void storeColumns(float *row, const float (&x)[4], int column, int size) {
#pragma unroll
    for (int q = 0; q < 4; ++q)
        if (column + q < size) row[column + q] = x[q];
}

// The halves of a thread's rows of values.
template <int Rows, int Count>
__device__ inline float (&firstHalf(float (&c)[Rows][Count]))[Rows / 2][Count] {
    return reinterpret_cast<float(&)[Rows / 2][Count]>(c[0]);
}
template <int Rows, int Count>
__device__ inline float (&secondHalf(float (&c)[Rows][Count]))[Rows / 2][Count] {
    return reinterpret_cast<float(&)[Rows / 2][Count]>(c[Rows / 2]);
}

// Groups of four neighbours, Step apart.
template <int Step, int Groups>
__device__ inline void loadGroups(float4 (&x)[Groups], const float *source) {
#pragma unroll
    for (int g = 0; g < Groups; ++g) x[g] = loadFour(source + g * Step);
}

template <int Groups>
__device__ inline void assign(float4 (&x)[Groups], const float4 (&y)[Groups]) {
#pragma unroll
    for (int g = 0; g < Groups; ++g) x[g] = y[g];
}

// c += A Bᵀ over K columns: A lies transposed and is read from this thread's first row on, in groups of four
// RowGroupStep apart; B lies by rows, this thread's being X apart. Only the first Count of a thread's rows of
// B.
template <int RowGroupStep, int X, int K, int PitchA, int PitchB, int Count, int Rows, int All>
__device__ inline void streamTT(float (&c)[Rows][All], const float *A, const float *B) {
    float4 a[Rows / 4], next[Rows / 4], b[Count];
    loadGroups<RowGroupStep>(a, A);
    loadGroups<X * PitchB>(b, B);
#pragma unroll 2
    for (int k = 0; k < K; k += 4) {
        const int following = k + 4 < K ? 4 : 0;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            loadGroups<RowGroupStep>(next, A + (q < 3 ? q + 1 : following) * PitchA);
#pragma unroll
            for (int e = 0; e < Count; ++e) {
#pragma unroll
                for (int f = 0; f < Rows; ++f) {
                    const int r = e % 2 ? Rows - 1 - f : f;
                    c[r][e] = fmaf((&a[r / 4].x)[r % 4], (&b[e].x)[q], c[r][e]);
                }
                if (q == 3) b[e] = loadFour(B + e * X * PitchB + following);
            }
            assign(a, next);
        }
        A += 4 * PitchA;
        B += 4;
    }
}

// c += A B over K rows of B: A from this thread's first row on, its rows RowStep apart, B from its first
// column on, its columns in groups of four GroupStep apart.
template <int RowStep, int GroupStep, int K, int PitchA, int PitchB, int Rows, int Count>
__device__ inline void streamNN(float (&c)[Rows][Count], const float *A, const float *B) {
    float4 a[Rows], b[Count / 4], next[Count / 4];
    loadGroups<RowStep * PitchA>(a, A);
    loadGroups<GroupStep>(b, B);
#pragma unroll 1
    for (int k = 0; k < K; k += 4) {
        const int following = k + 4 < K ? 4 : 0;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            loadGroups<GroupStep>(next, B + (q < 3 ? q + 1 : following) * PitchB);
#pragma unroll
            for (int r = 0; r < Rows; ++r) {
#pragma unroll
                for (int f = 0; f < Count; ++f) {
                    const int e = r % 2 ? Count - 1 - f : f;
                    c[r][e] = fmaf((&a[r].x)[q], (&b[e / 4].x)[e % 4], c[r][e]);
                }
                if (q == 3) a[r] = loadFour(A + r * RowStep * PitchA + following);
            }
            assign(b, next);
        }
        A += 4;
        B += 4 * PitchB;
    }
}

constexpr int allColumns = 256; // more than a thread has

// c += Aᵀ B over K rows of A and B, each from this thread's first column on, columns in groups of four that
// lie RowGroupStep and GroupStep apart. Of the first half of the rows only as many columns as are Seen.
template <
    int RowGroupStep, int GroupStep, int K, int PitchA, int PitchB, int Seen = allColumns, int Rows,
    int Count>
__device__ inline void streamTN(float (&c)[Rows][Count], const float *A, const float *B) {
    constexpr int unrolled = 8;
    static_assert(K % unrolled == 0);
    float4 a[Rows / 4], nextA[Rows / 4], b[Count / 4], nextB[Count / 4];
    loadGroups<RowGroupStep>(a, A);
    loadGroups<GroupStep>(b, B);
#pragma unroll 1
    for (int k = 0; k < K; k += unrolled) {
#pragma unroll
        for (int u = 0; u < unrolled; ++u) {
            const int following = u + 1 < unrolled || k + unrolled < K ? u + 1 : 0;
            loadGroups<RowGroupStep>(nextA, A + following * PitchA);
            loadGroups<GroupStep>(nextB, B + following * PitchB);
#pragma unroll
            for (int r = 0; r < Rows; ++r)
#pragma unroll
                for (int f = 0; f < Count; ++f) {
                    const int e = r % 2 ? Count - 1 - f : f;
                    if (r >= Rows / 2 || e < Seen)
                        c[r][e] = fmaf((&a[r / 4].x)[r % 4], (&b[e / 4].x)[e % 4], c[r][e]);
                }
            assign(a, nextA);
            assign(b, nextB);
        }
        A += unrolled * PitchA;
        B += unrolled * PitchB;
    }
}
