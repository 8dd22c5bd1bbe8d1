// How a thread's part of a sum comes to device memory in FlashAttention-2's backward pass in F32: dQ, to
// which all key tiles add, and dK and dV, which are written once or in parts.
//
// Threads says which rows and columns the part is of, as ProductThreads does.
#pragma once

#include "float_stream_products.cuh"
#include "float_stream_steps.cuh"

// target += factor · sum, target being where the thread's first element goes, by vectors.
//
// - All: whether all of the thread's elements exist; otherwise those below the limit and the size.
template <typename Threads, bool All, int Count, int Columns>
__device__ inline void addVectors(
    const float (&sum)[Count][Columns], float factor, float *target, int64_t stride, int limit, int size) {
    // All before the first is sent: an atomic reads its registers late, and what writes them again waits
    // for it.
    float4 scaled[Count][Columns / 4];
#pragma unroll
    for (int r = 0; r < Count; ++r)
#pragma unroll
        for (int e = 0; e < Columns; ++e) (&scaled[r][e / 4].x)[e % 4] = sum[r][e] * factor;
#pragma unroll
    for (int r = 0; r < Count; ++r) {
#pragma unroll
        for (int e = 0; e < Columns; e += 4)
            if (All || (r * Threads::Y < limit && e * Threads::X < size)) {
                const float4 x = scaled[r][e / 4];
                addToMemory(target + e * Threads::X, x.x, x.y, x.z, x.w);
            }
        target += Threads::Y * stride;
    }
}

// The same where rows do not lie in vectors.
template <typename Threads, int Count, int Columns>
__device__ inline void addElements(
    const float (&sum)[Count][Columns], float factor, float *target, int64_t stride, int limit, int size) {
#pragma unroll
    for (int r = 0; r < Count; ++r) {
#pragma unroll
        for (int e = 0; e < Columns; ++e) {
            const int column = e / 4 * 4 * Threads::X + e % 4;
            if (r * Threads::Y < limit && column < size) atomicAdd(target + column, sum[r][e] * factor);
        }
        target += Threads::Y * stride;
    }
}

// target += factor · sum for the rows below the limit and the columns below the size, both counted from the
// thread's first.
template <typename Threads, int Count, int Columns>
__device__ inline void addScaled(
    const float (&sum)[Count][Columns], float factor, float *target, int64_t stride, int limit, int size,
    bool vectorised) {
    if (!vectorised)
        addElements<Threads>(sum, factor, target, stride, limit, size);
    else if (limit > (Count - 1) * Threads::Y && size > (Columns - 4) * Threads::X)
        addVectors<Threads, true>(sum, factor, target, stride, limit, size);
    else
        addVectors<Threads, false>(sum, factor, target, stride, limit, size);
}

// rows = factor · sum, from the first row of a tile on, those below the limit.
template <typename Threads, int Count, int Columns>
__device__ inline void storeScaled(
    const float (&sum)[Count][Columns], float factor, const Rows<float> &rows, int first, int limit,
    int size) {
#pragma unroll
    for (int r = 0; r < Count; ++r) {
        const int row = first + Threads::row(r);
        if (row >= limit) continue;
        float *target = rows.row(row);
#pragma unroll
        for (int c = 0; c < Columns; ++c)
            if (Threads::column(c) < size) target[Threads::column(c)] = sum[r][c] * factor;
    }
}

// The same, or rows += factor · sum if other blocks have parts of it.
template <typename Threads, int Count, int Columns>
__device__ inline void storeShared(
    const float (&sum)[Count][Columns], float factor, const Rows<float> &rows, int first, int limit, int size,
    bool isPart) {
#pragma unroll
    for (int r = 0; r < Count; ++r) {
        const int row = first + Threads::row(r);
        if (row >= limit) continue;
#pragma unroll
        for (int c = 0; c < Columns; c += 4) {
            const int column = Threads::column(c);
            float *target = rows.row(row) + column;
            if (!isPart) {
#pragma unroll
                for (int q = 0; q < 4; ++q)
                    if (column + q < size) target[q] = sum[r][c + q] * factor;
            } else {
#pragma unroll
                for (int q = 0; q < 4; ++q)
                    if (column + q < size) atomicAdd(target + q, sum[r][c + q] * factor);
            }
        }
    }
}
