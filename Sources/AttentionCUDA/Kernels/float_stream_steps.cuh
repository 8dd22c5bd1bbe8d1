// How FlashAttention-2 in F32 shares out its products among threads, and how operands come to shared memory
// in chunks.
//
// A thread owns Rows rows and Count columns of a product: every so many (where the operand is read along k)
// or groups of four neighbours (where it is read across k); see float_stream_products.cuh. 8 × 8 tiles read
// 16 times 16 bytes for 256 FFMAs.
//
// What a shared load of 16 bytes costs depends on which lanes read the same address. Shared memory serves a
// warp's 512 bytes in four turns of eight lanes, or in two of sixteen where lane l reads what lane l ^ 1 or
// l ^ 2 reads. So bit 0 of the lane chooses a column and bit 1 a row: what is read by rows is then shared by
// l and l ^ 1, what is read by columns by l and l ^ 2. The two rows or eight columns of a turn lie in
// different banks.
#pragma once

#include "float_tile_steps.cuh"

constexpr int streamThreads = 128;

// A lane's place among the X columns and 32 / X rows of threads that a warp is.
template <int X>
struct LanePlace {
    static_assert(X == 8 || X == 16 || X == 32);

    __device__ static int x() {
        const int lane = threadIdx.x % 32;
        return X == 32 ? lane : (lane & 1) | (lane >> 1 & (X - 2));
    }
    __device__ static int y() {
        const int lane = threadIdx.x % 32;
        return X == 32 ? 0 : (lane >> 1 & 1) | (X == 8 ? lane >> 3 & 2 : 0);
    }
    // The bits of the lane that are its column.
    static constexpr int columnBits = X == 8 ? 13 : X == 16 ? 29 : 31;
};

// How the threads of a forward block share out rows and columns: a warp holds whole rows, X threads a row, so
// that row statistics and P stay within a warp. Of eight rows that a thread has, four are in the first half
// of the block's and four in the second, so that all warps have less to do where the first half sees no key.
template <int X, int Rows>
struct StreamThreads {
    static constexpr int rowsAtOnce = 32 / X, warpRows = rowsAtOnce * Rows,
                         blockRows = streamThreads / 32 * warpRows;
    static constexpr int strips = Rows / 4, stripRows = 4 * rowsAtOnce; // a warp's rows: strips of neighbours

    __device__ static int x() { return LanePlace<X>::x(); }
    // The first row of a warp's strip in the block's tile.
    __device__ static int strip(int s) { return s * stripStep + threadIdx.x / 32 * stripRows; }
    // A thread's r-th row in the block's tile, in groups of four neighbours, and among its warp's.
    __device__ static int row(int r) { return strip(r / 4) + LanePlace<X>::y() * 4 + r % 4; }
    __device__ static int rowOfWarp(int r) { return r / 4 * stripRows + LanePlace<X>::y() * 4 + r % 4; }
    // How far the next group of four is, in the block's tile.
    static constexpr int stripStep = blockRows / strips;
    // The column of a thread's c-th value, in groups of four neighbours.
    __device__ static int column(int c) { return c / 4 * (4 * X) + x() * 4 + c % 4; }

    __device__ static float maximum(float v) {
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2)
            if (LanePlace<X>::columnBits & distance) v = fmaxf(v, __shfl_xor_sync(~0u, v, distance));
        return v;
    }
    __device__ static float sum(float v) {
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2)
            if (LanePlace<X>::columnBits & distance) v += __shfl_xor_sync(~0u, v, distance);
        return v;
    }
};

// How the threads of a backward block share out a product of RowCount × ColumnCount: X × Y threads with
// Rows × Columns values each, a warp being 8 threads wide and 4 high. If those are fewer threads than the
// block has, its `groups` each have a part of k.
template <int Threads, int RowCount, int ColumnCount, int Rows, int Columns>
struct ProductThreads {
    static constexpr int X = ColumnCount / Columns, Y = RowCount / Rows, groups = Threads / (X * Y);
    static constexpr int rows = Rows, columns = Columns;
    static_assert(X % 8 == 0 && Y % 4 == 0 && X * Y * groups == Threads);
    static_assert(Rows % 4 == 0 && Columns % 4 == 0 && X * Columns == ColumnCount && Y * Rows == RowCount);

    __device__ static int warp() { return threadIdx.x / 32 % (X / 8 * (Y / 4)); }
    __device__ static int group() { return threadIdx.x / (X * Y); }
    __device__ static int x() { return warp() % (X / 8) * 8 + LanePlace<8>::x(); }
    __device__ static int y() { return warp() / (X / 8) * 4 + LanePlace<8>::y(); }
    // A thread's r-th row and c-th column where they are taken in groups of four neighbours.
    __device__ static int row(int r) { return r / 4 * (4 * Y) + y() * 4 + r % 4; }
    __device__ static int column(int c) { return c / 4 * (4 * X) + x() * 4 + c % 4; }
};

// The fewest passes of so many threads that cover whole rows.
__host__ __device__ constexpr int copyCycleOf(int threads, int chunks) {
    int cycle = 1;
    while (cycle * threads % chunks != 0) ++cycle;
    return cycle;
}

// Starts the copy of rows [first, first + RowCount) and columns [firstColumn, firstColumn + ColumnCount) of a
// tensor into a tile of that pitch; what is at or past `limit` or `size` becomes 0.
template <int RowCount, int ColumnCount, int Pitch, int Threads = streamThreads>
__device__ inline void copyFloats(
    float *tile, const Rows<const float> &rows, int first, int limit, int size, bool vectorised,
    int firstColumn = 0) {
    if (vectorised) {
        constexpr int chunks = ColumnCount / 4;
        constexpr int total = RowCount * chunks;
        constexpr int cycle = copyCycleOf(Threads, chunks), step = cycle * Threads / chunks;
        static_assert(total % (cycle * Threads) == 0, "every thread copies the same number of chunks");
#pragma unroll 1
        for (int c = 0; c < cycle; ++c) {
            const int index = threadIdx.x + c * Threads, row = index / chunks, column = index % chunks * 4;
            const int below = firstColumn + column < size ? limit - first - row : 0;
            const float *source = rows.row(first + row) + firstColumn + column;
            const uint32_t target = sharedAddress(tile + row * Pitch + column);
#pragma unroll
            for (int pass = 0; pass < total / (cycle * Threads); ++pass) {
                const bool valid = pass * step < below; // else the address is not read
                copyAsync16(target + pass * step * Pitch * 4, source, valid);
                source += step * rows.stride;
            }
        }
        return;
    }
#pragma unroll 1
    for (int index = threadIdx.x; index < RowCount * ColumnCount; index += Threads) {
        const int row = index / ColumnCount, column = index % ColumnCount;
        const bool valid = first + row < limit && firstColumn + column < size;
        tile[row * Pitch + column] = valid ? rows.row(first + row)[firstColumn + column] : 0;
    }
}

// The same into a tile that holds the columns one after the other, Pitch apart: what products read across k.
// A warp copies four rows of eight columns at a time, whole sectors of memory, to all banks.
template <int RowCount, int ColumnCount, int Pitch, int Threads>
__device__ inline void copyTransposed(
    float *tile, const Rows<const float> &rows, int first, int limit, int size, int firstColumn) {
    constexpr int rowsAtOnce = Threads / 8;
    static_assert(Pitch % 8 == 4 && RowCount % rowsAtOnce == 0 && ColumnCount % 8 == 0);
    const int row = threadIdx.x / 8, column = threadIdx.x % 8;
    const float *source = rows.row(first + row) + firstColumn + column;
    const uint32_t target = sharedAddress(tile + column * Pitch + row);
    const int below = limit - first - row, left = size - firstColumn - column;
    const int64_t step = rowsAtOnce * rows.stride;
#pragma unroll
    for (int r = 0; r < RowCount / rowsAtOnce; ++r) {
#pragma unroll
        for (int c = 0; c < ColumnCount; c += 8)
            copyAsyncSmall<4>(
                target + (c * Pitch + r * rowsAtOnce) * 4, source + c, r * rowsAtOnce < below && c < left);
        source += step;
    }
}

// Starts the copy of a tile from rows of which all is there, whatever the tensor's size.
template <int RowCount, int ColumnCount, int Pitch, int Threads>
__device__ inline void copyWhole(float *tile, const float *source, int64_t stride) {
    constexpr int chunks = ColumnCount / 4, rowsAtOnce = Threads / chunks;
    static_assert(Threads % chunks == 0 && RowCount % rowsAtOnce == 0);
    const int row = threadIdx.x / chunks, column = threadIdx.x % chunks * 4;
    const uint32_t target = sharedAddress(tile + row * Pitch + column);
    source += row * stride + column;
#pragma unroll
    for (int r = 0; r < RowCount; r += rowsAtOnce) {
        copyAsync16(target + r * Pitch * 4, source, true);
        source += rowsAtOnce * stride;
    }
}
