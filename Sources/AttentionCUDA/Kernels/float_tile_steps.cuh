// Tiles of floats in shared memory and the three block products on them: gemmNT, gemmNN and gemmTN, as in the
// CPU's table of micro-kernels, from FFMAs. They serve FlashAttention-1 and the plain algorithms, in any
// format.
//
// 256 threads as 16 × 16. Thread (y, x) owns Rows rows of a product, y · Rows + r, and of its columns either
// x + 16 c (gemmNT, whose right operand is read along k) or groups of neighbours (gemmNN, gemmTN, read along
// the column). A tile's rows are padded by four floats, so that the rows which 16 threads read at once lie in
// different banks.
#pragma once

#include "shared_tile.cuh"

constexpr int floatThreads = 256;
__host__ __device__ constexpr int floatPitch(int columns) { return columns + 4; }

__device__ inline int threadY() { return threadIdx.x / 16; }
__device__ inline int threadX() { return threadIdx.x % 16; }

// The column of a thread's c-th value of Count, for products whose right operand is read along the column.
template <int Count>
struct Columns {
    static constexpr int group = Count % 4 == 0 ? 4 : 2;
    __device__ static int column(int c) { return c / group * (16 * group) + threadX() * group + c % group; }
};

template <int Rows, int Count>
__device__ inline void clear(float (&c)[Rows][Count]) {
#pragma unroll
    for (int r = 0; r < Rows; ++r)
#pragma unroll
        for (int e = 0; e < Count; ++e) c[r][e] = 0;
}

// c += A Bᵀ: A [16 Rows][K], B [16 Count][K].
template <int K, int PitchA, int PitchB, int Rows, int Count>
__device__ inline void gemmNT(float (&c)[Rows][Count], const float *A, const float *B) {
    A += threadY() * Rows * PitchA;
    B += threadX() * PitchB;
#pragma unroll 2
    for (int k = 0; k < K; k += 4) {
        float4 a[Rows], b[Count];
#pragma unroll
        for (int r = 0; r < Rows; ++r) a[r] = *reinterpret_cast<const float4 *>(A + r * PitchA + k);
#pragma unroll
        for (int e = 0; e < Count; ++e) b[e] = *reinterpret_cast<const float4 *>(B + e * 16 * PitchB + k);
#pragma unroll
        for (int r = 0; r < Rows; ++r)
#pragma unroll
            for (int e = 0; e < Count; ++e) {
                c[r][e] = fmaf(a[r].x, b[e].x, c[r][e]);
                c[r][e] = fmaf(a[r].y, b[e].y, c[r][e]);
                c[r][e] = fmaf(a[r].z, b[e].z, c[r][e]);
                c[r][e] = fmaf(a[r].w, b[e].w, c[r][e]);
            }
    }
}

// One row of the right operand: a thread's columns.
template <int Count>
__device__ inline void loadColumns(float (&b)[Count], const float *row) {
    constexpr int group = Columns<Count>::group;
#pragma unroll
    for (int g = 0; g < Count / group; ++g) {
        const float *source = row + Columns<Count>::column(g * group);
        if (group == 4) {
            const float4 v = *reinterpret_cast<const float4 *>(source);
            b[g * group] = v.x, b[g * group + 1] = v.y;
            b[g * group + group - 2] = v.z, b[g * group + group - 1] = v.w;
        } else {
            const float2 v = *reinterpret_cast<const float2 *>(source);
            b[g * group] = v.x, b[g * group + 1] = v.y;
        }
    }
}

// What P and dS hold where the row does not see the key: a zero of its own, which no visible element has.
constexpr float hidden = -0.0f;
__device__ inline bool isHidden(float p) { return __float_as_uint(p) == 0x80000000u; }

// c + a b; in a masked tile nothing is added where a is hidden, so that a NaN or an infinity in b stays out
// of rows that do not see it.
template <bool Masked>
__device__ inline float multiplyAdd(float a, float b, float c) {
    return Masked && isHidden(a) ? c : fmaf(a, b, c);
}

// p (dP - delta), never a negative zero.
__device__ inline float scoreGradient(float p, float dP, float delta) { return fmaf(p, dP - delta, 0.0f); }

// c += A B: A [16 Rows][K] by rows, B [K][16 Count].
template <int K, int PitchA, int PitchB, bool Masked, int Rows, int Count>
__device__ inline void gemmNN(float (&c)[Rows][Count], const float *A, const float *B) {
    A += threadY() * Rows * PitchA;
#pragma unroll 2
    for (int k = 0; k < K; k += 4) {
        float4 a[Rows];
#pragma unroll
        for (int r = 0; r < Rows; ++r) a[r] = *reinterpret_cast<const float4 *>(A + r * PitchA + k);
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            float b[Count];
            loadColumns(b, B + (k + q) * PitchB);
#pragma unroll
            for (int r = 0; r < Rows; ++r)
#pragma unroll
                for (int e = 0; e < Count; ++e) c[r][e] = multiplyAdd<Masked>((&a[r].x)[q], b[e], c[r][e]);
        }
    }
}

// c += Aᵀ B: A [K][16 Rows], B [K][16 Count].
template <int K, int PitchA, int PitchB, bool Masked, int Rows, int Count>
__device__ inline void gemmTN(float (&c)[Rows][Count], const float *A, const float *B) {
    A += threadY() * Rows;
#pragma unroll 4
    for (int k = 0; k < K; ++k) {
        float a[Rows], b[Count];
#pragma unroll
        for (int r = 0; r < Rows; r += 2) {
            const float2 v = *reinterpret_cast<const float2 *>(A + k * PitchA + r);
            a[r] = v.x, a[r + 1] = v.y;
        }
        loadColumns(b, B + k * PitchB);
#pragma unroll
        for (int r = 0; r < Rows; ++r)
#pragma unroll
            for (int e = 0; e < Count; ++e) c[r][e] = multiplyAdd<Masked>(a[r], b[e], c[r][e]);
    }
}

// Rows [first, first + RowCount) and columns [firstColumn, firstColumn + ColumnCount) of a tensor into a tile
// of floats; what is at or past `limit` or `size` becomes 0. F32 rows of 16-byte chunks are copied
// asynchronously.
template <typename T, int RowCount, int ColumnCount>
__device__ inline void loadFloatTile(
    float *tile, const Rows<const T> &rows, int first, int limit, int size, bool vectorised,
    int firstColumn = 0) {
    constexpr int pitch = floatPitch(ColumnCount);
    if (sizeof(T) == 4 && vectorised) {
#pragma unroll 4
        for (int index = threadIdx.x; index < RowCount * ColumnCount / 4; index += floatThreads) {
            const int row = index / (ColumnCount / 4), column = index % (ColumnCount / 4) * 4;
            const bool valid = first + row < limit && firstColumn + column < size;
            const T *source = valid ? rows.row(first + row) + firstColumn + column : rows.base;
            copyAsync16(sharedAddress(tile + row * pitch + column), source, valid);
        }
        return;
    }
#pragma unroll 4
    for (int index = threadIdx.x; index < RowCount * ColumnCount; index += floatThreads) {
        const int row = index / ColumnCount, column = index % ColumnCount;
        const bool valid = first + row < limit && firstColumn + column < size;
        tile[row * pitch + column] =
            valid ? Format<T>::widen(rows.row(first + row)[firstColumn + column]) : 0;
    }
}

// Writes a product, times each row's factor, to rows from `first` on.
template <typename T, int RowsOfThread, int Count, typename Factor>
__device__ inline void storeProduct(
    const float (&c)[RowsOfThread][Count], const Rows<T> &rows, int first, int limit, int size, Factor factor,
    int firstColumn = 0) {
#pragma unroll
    for (int r = 0; r < RowsOfThread; ++r) {
        const int row = threadY() * RowsOfThread + r;
        if (first + row >= limit) continue;
        T *target = rows.row(first + row);
#pragma unroll
        for (int e = 0; e < Count; ++e) {
            const int column = firstColumn + Columns<Count>::column(e);
            if (column < size) target[column] = Format<T>::narrow(c[r][e] * factor(r));
        }
    }
}

// The largest and the sum over the 16 threads that share a row.
__device__ inline float rowMaximum(float x) {
#pragma unroll
    for (int distance = 1; distance < 16; distance *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
    return x;
}
__device__ inline float rowSum(float x) {
#pragma unroll
    for (int distance = 1; distance < 16; distance *= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
}
