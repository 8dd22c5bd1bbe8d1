// The products of FlashAttention-2 in F32 on exact FFMAs, with larger register tiles than float_tile_steps.cuh and
// right operands that stream through shared memory in chunks.
//
// A thread owns Rows rows and of a product's columns every X-th (gemmNT, whose right operand is read along k) or groups
// of four neighbours (gemmNN). A shared load of 16 bytes costs as much of the memory's time as four FFMAs of a warp, so
// 8 × 8 tiles, which read 16 times 16 bytes for 256 FFMAs, are what keeps the FFMA units the limit. A warp holds whole
// rows, X threads a row: row statistics and P stay within a warp. Its threads' rows lie side by side, so that the
// addresses which a warp reads at once are in different banks.
#pragma once

#include "float_tile_steps.cuh"

constexpr int streamThreads = 128;

// How the threads of a block share out rows and columns.
template <int X, int Rows>
struct StreamThreads {
    static constexpr int rowsAtOnce = 32 / X, warpRows = rowsAtOnce * Rows, blockRows = streamThreads / 32 * warpRows;

    __device__ static int x() { return threadIdx.x % X; }
    __device__ static int warpRow() { return threadIdx.x / 32 * warpRows; }
    // A thread's r-th row in the block's tile.
    __device__ static int row(int r) { return warpRow() + r * rowsAtOnce + threadIdx.x % 32 / X; }
    // The column of a thread's c-th value, in groups of four neighbours.
    __device__ static int column(int c) { return c / 4 * (4 * X) + x() * 4 + c % 4; }

    __device__ static float maximum(float v) {
#pragma unroll
        for (int distance = 1; distance < X; distance *= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, distance));
        return v;
    }
    __device__ static float sum(float v) {
#pragma unroll
        for (int distance = 1; distance < X; distance *= 2) v += __shfl_xor_sync(~0u, v, distance);
        return v;
    }
};

__device__ inline float4 loadFour(const float *source) { return *reinterpret_cast<const float4 *>(source); }

// c += A Bᵀ over K columns: A from this thread's first row on, B [X Count][K].
template <typename Threads, int X, int K, int PitchA, int PitchB, int Rows, int Count>
__device__ inline void streamNT(float (&c)[Rows][Count], const float *A, const float *B) {
    B += Threads::x() * PitchB;
#pragma unroll 2
    for (int k = 0; k < K; k += 4) {
        float4 a[Rows];
#pragma unroll
        for (int r = 0; r < Rows; ++r) a[r] = loadFour(A + r * Threads::rowsAtOnce * PitchA + k);
#pragma unroll
        for (int e = 0; e < Count; ++e) {
            const float4 b = loadFour(B + e * X * PitchB + k);
#pragma unroll
            for (int r = 0; r < Rows; ++r) c[r][e] = fmaf(a[r].x, b.x, c[r][e]);
#pragma unroll
            for (int r = 0; r < Rows; ++r) c[r][e] = fmaf(a[r].y, b.y, c[r][e]);
#pragma unroll
            for (int r = 0; r < Rows; ++r) c[r][e] = fmaf(a[r].z, b.z, c[r][e]);
#pragma unroll
            for (int r = 0; r < Rows; ++r) c[r][e] = fmaf(a[r].w, b.w, c[r][e]);
        }
    }
}

// c += A B over K rows of B: A from this thread's first row on, B [K][X Count].
template <typename Threads, int X, int K, int PitchA, int PitchB, int Rows, int Count>
__device__ inline void streamNN(float (&c)[Rows][Count], const float *A, const float *B) {
    B += Threads::x() * 4;
#pragma unroll 2
    for (int k = 0; k < K; k += 4) {
        float4 a[Rows];
#pragma unroll
        for (int r = 0; r < Rows; ++r) a[r] = loadFour(A + r * Threads::rowsAtOnce * PitchA + k);
#pragma unroll
        for (int q = 0; q < 4; ++q)
#pragma unroll
            for (int g = 0; g < Count / 4; ++g) {
                const float4 b = loadFour(B + (k + q) * PitchB + g * 4 * X);
#pragma unroll
                for (int r = 0; r < Rows; ++r) {
                    const float factor = (&a[r].x)[q];
                    c[r][4 * g] = fmaf(factor, b.x, c[r][4 * g]);
                    c[r][4 * g + 1] = fmaf(factor, b.y, c[r][4 * g + 1]);
                    c[r][4 * g + 2] = fmaf(factor, b.z, c[r][4 * g + 2]);
                    c[r][4 * g + 3] = fmaf(factor, b.w, c[r][4 * g + 3]);
                }
            }
    }
}

// The fewest passes of so many threads that cover whole rows.
__host__ __device__ constexpr int copyCycleOf(int threads, int chunks) {
    int cycle = 1;
    while (cycle * threads % chunks != 0) ++cycle;
    return cycle;
}

// Starts the copy of rows [first, first + RowCount) and columns [firstColumn, firstColumn + ColumnCount) of a tensor
// into a tile of that pitch; what is at or past `limit` or `size` becomes 0.
template <int RowCount, int ColumnCount, int Pitch>
__device__ inline void copyFloats(
    float *tile, const Rows<const float> &rows, int first, int limit, int size, bool vectorised, int firstColumn = 0) {
    if (vectorised) {
        constexpr int chunks = ColumnCount / 4;
        constexpr int total = RowCount * chunks;
        constexpr int cycle = copyCycleOf(streamThreads, chunks), step = cycle * streamThreads / chunks;
        static_assert(total % (cycle * streamThreads) == 0, "every thread copies the same number of chunks");
#pragma unroll 1
        for (int c = 0; c < cycle; ++c) {
            const int index = threadIdx.x + c * streamThreads, row = index / chunks, column = index % chunks * 4;
            const int below = firstColumn + column < size ? limit - first - row : 0;
            const float *source = rows.row(first + row) + firstColumn + column;
            const uint32_t target = sharedAddress(tile + row * Pitch + column);
#pragma unroll
            for (int pass = 0; pass < total / (cycle * streamThreads); ++pass) {
                const bool valid = pass * step < below; // else the address is not read
                copyAsync16(target + pass * step * Pitch * 4, source, valid);
                source += step * rows.stride;
            }
        }
        return;
    }
#pragma unroll 1
    for (int index = threadIdx.x; index < RowCount * ColumnCount; index += streamThreads) {
        const int row = index / ColumnCount, column = index % ColumnCount;
        const bool valid = first + row < limit && firstColumn + column < size;
        tile[row * Pitch + column] = valid ? rows.row(first + row)[firstColumn + column] : 0;
    }
}
