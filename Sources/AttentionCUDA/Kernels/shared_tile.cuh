// Tiles of Q, K, V … in shared memory: how they lie there, how they come in and how fragments are read.
//
// A tile is [rows][Columns], Columns being the head size rounded up to its bucket. The 16-byte chunks of a
// row are permuted by the row, chunk ^ row % 8, so that the eight rows that one ldmatrix phase reads, and the
// eight rows of a fragment that one store writes, lie in different banks. Rows of an odd multiple of 64 bytes
// (Columns 32, 96 in 16 bits) alternate between the halves of the banks by themselves: there two bits are
// permuted.
#pragma once

#include "tensor_core.cuh"
#include "tile_plan.cuh"

// Elements of 16 bytes.
template <typename T>
constexpr int chunkElements = 16 / int(sizeof(T));

template <typename T, int Columns>
struct SharedTile {
    static constexpr int rowBytes = Columns * int(sizeof(T));
    static constexpr int chunks = rowBytes / 16;
    static constexpr bool wide = rowBytes % 128 == 0;

    __device__ static int permutation(int row) { return wide ? row & 7 : (row >> 1) & 3; }

    // The byte offset of a chunk of a row.
    __device__ static uint32_t offset(int row, int chunk) {
        return row * rowBytes + ((chunk ^ permutation(row)) << 4);
    }

    // The byte offset of an element.
    __device__ static uint32_t elementOffset(int row, int column) {
        constexpr unsigned elements = chunkElements<T>;
        return offset(row, unsigned(column) / elements) + unsigned(column) % elements * sizeof(T);
    }

    __host__ __device__ static constexpr int bytes(int rows) { return rows * rowBytes; }
};

// The addresses from which a lane reads its share of a tile's fragments.
//
// The permutation touches only the low bits of the chunk, so all addresses of a lane are `period` registers
// plus constants: no arithmetic is left in the loops.
template <typename T, int Columns>
struct FragmentReader {
    using Tile = SharedTile<T, Columns>;
    static constexpr int period = Tile::wide ? 4 : 2;
    uint32_t base[period];

    // - row: the lane's row in the first matrix; half: which 16-byte half of a step it reads.
    __device__ FragmentReader(uint32_t tile, int row, int half) {
#pragma unroll
        for (int v = 0; v < period; ++v) base[v] = tile + Tile::offset(row, 2 * v + half);
    }

    // Step: 32 bytes of a row; rowOffset: a multiple of 8.
    __device__ uint32_t address(int step, int rowOffset) const {
        return base[step % period] + (step / period) * (period * 32) + rowOffset * Tile::rowBytes;
    }

    // The reader whose step 0 is step `first` of this one. Its other steps follow as long as they stay within
    // an aligned group of four.
    __device__ FragmentReader fromStep(int first) const {
        FragmentReader other = *this;
#pragma unroll
        for (int v = 0; v < period; ++v) other.base[v] = (base[v] ^ first % 4 * 32) + first / 4 * 128;
        return other;
    }

    __device__ FragmentReader advanced(uint32_t bytes) const {
        FragmentReader other = *this;
#pragma unroll
        for (int v = 0; v < period; ++v) other.base[v] += bytes;
        return other;
    }
};

// Lane's rows and halves: an A operand by rows, or a B operand read transposed ([k][n] in memory).
__device__ inline int laneRowA(int lane) { return lane & 15; }
__device__ inline int laneHalfA(int lane) { return lane >> 4; }
// A B operand by rows ([n][k] in memory), 16 of its n at a time; or an A operand read transposed.
__device__ inline int laneRowB(int lane) { return (lane & 7) + ((lane >> 4) << 3); }
__device__ inline int laneHalfB(int lane) { return (lane >> 3) & 1; }

// A tensor's rows of one batch entry and head.
template <typename T>
struct Rows {
    T *base;
    int64_t stride;

    __device__ Rows(const TileOperand &operand, int batch, int head)
        : base(
              reinterpret_cast<T *>(operand.address) + batch * operand.batchStride +
              head * operand.headStride),
          stride(operand.rowStride) {}

    __device__ T *row(int r) const { return base + r * stride; }
};

// The fewest passes of so many threads that cover a multiple of eight rows.
__host__ __device__ constexpr int copyCycle(int threads, int chunks) {
    int cycle = 1;
    while (cycle * threads % (8 * chunks) != 0) ++cycle;
    return cycle;
}

// The rows of a tensor that are read: those below a limit, or those of a range.
struct RowsBelow {
    int upper;

    __device__ RowsBelow(int upper) : upper(upper) {}
    __device__ bool contains(int row) const { return row < upper; }
    // Whether row + step is read, in as few instructions as it takes: `step` is a constant.
    __device__ RowsBelow startingAt(int row) const { return RowsBelow(upper - row); }
    __device__ bool containsStep(int step) const { return step < upper; }
};

struct RowsOf {
    int lower, upper;

    __device__ RowsOf(TileRange range) : lower(range.lower), upper(range.upper) {}
    __device__ bool contains(int row) const { return row >= lower && row < upper; }
    __device__ RowsOf startingAt(int row) const { return RowsOf(TileRange{lower - row, upper - row}); }
    __device__ bool containsStep(int step) const { return step >= lower && step < upper; }
};

// A parameter type that is not guessed from the argument.
template <typename T>
struct GivenType {
    using Type = T;
};
template <typename T>
using Given = typename GivenType<T>::Type;

__device__ inline void storeShared32(uint32_t address, uint32_t value) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

__device__ inline void storeShared(uint32_t address, const uint32_t (&words)[4]) {
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3])
                 : "memory");
}

// Starts the copy of rows [first, first + RowCount) into a tile. Rows not `existing` and columns past `size`
// become zeros: whatever lies there in memory, NaN too, never reaches a product. Called by `Threads` threads,
// thread = 0 ..< Threads.
template <typename T, int Columns, int RowCount, int Threads, typename Existing = RowsBelow>
__device__ inline void copyTile(
    uint32_t tile, const Rows<const T> &rows, int first, Given<Existing> existing, int size, bool vectorised,
    int thread = threadIdx.x) {
    using Tile = SharedTile<T, Columns>;
    constexpr int total = RowCount * Tile::chunks;
    static_assert(total % Threads == 0, "every thread copies the same number of chunks");
    if (vectorised) {
        // A thread's chunks repeat their column and permutation after `cycle` passes, so that it walks
        // `cycle` columns of rows, each with one pointer and one count of rows that exist.
        constexpr int cycle = copyCycle(Threads, Tile::chunks);
        constexpr int step = cycle * Threads / Tile::chunks;
        static_assert(total % (cycle * Threads) == 0);
#pragma unroll 1
        for (int c = 0; c < cycle; ++c) {
            const int index = thread + c * Threads;
            const int row = index / Tile::chunks, chunk = index % Tile::chunks;
            Existing steps = existing.startingAt(first + row);
            if (chunk * chunkElements<T> >= size) steps.upper = 0;
            const T *source = rows.row(first + row) + chunk * chunkElements<T>;
            const uint32_t target = tile + Tile::offset(row, chunk);
#pragma unroll
            for (int pass = 0; pass < total / (cycle * Threads); ++pass) {
                const bool valid = steps.containsStep(pass * step); // else the address is not read
                copyAsync16(target + pass * step * Tile::rowBytes, source, valid);
                source += step * rows.stride;
            }
        }
        return;
    }
    if constexpr (sizeof(T) == 4) {
#pragma unroll 1
        for (int index = thread; index < RowCount * Columns; index += Threads) {
            const int row = index / Columns, column = index % Columns;
            copyAsyncSmall<4>(
                tile + Tile::elementOffset(row, column), rows.row(first + row) + column,
                existing.contains(first + row) && column < size);
        }
    } else {
#pragma unroll 1
        for (int index = thread; index < total; index += Threads) {
            int row = index / Tile::chunks, chunk = index % Tile::chunks;
            uint32_t pairs[4] = {0, 0, 0, 0};
            if (existing.contains(first + row)) {
                const unsigned short *source =
                    reinterpret_cast<const unsigned short *>(rows.row(first + row)) + chunk * 8;
#pragma unroll
                for (int e = 0; e < 8; ++e)
                    if (chunk * 8 + e < size) pairs[e / 2] |= uint32_t(source[e]) << (e % 2 * 16);
            }
            storeShared(tile + Tile::offset(row, chunk), pairs);
        }
    }
}

// Writes the first `count` of the elements of 16 bytes.
template <typename T>
__device__ inline void storeElements(T *target, const uint32_t (&words)[4], int count) {
    const T *elements = reinterpret_cast<const T *>(words);
#pragma unroll
    for (int e = 0; e < chunkElements<T>; ++e)
        if (e < count) target[e] = elements[e];
}

// Writes 16 bytes of elements, or the first `count` elements if not `vectorised`.
template <typename T>
__device__ inline void storeChunk(T *target, const uint32_t (&words)[4], int count, bool vectorised) {
    if (vectorised)
        *reinterpret_cast<uint4 *>(target) = make_uint4(words[0], words[1], words[2], words[3]);
    else
        storeElements(target, words, count);
}

// Writes rows [first, first + RowCount) of a tile to a tensor, up to row `limit` and column `size`, by the
// `Threads` threads that call it with thread = 0 ..< Threads.
template <typename T, int Columns, int RowCount, int Threads>
__device__ inline void storeTile(
    uint32_t tile, const Rows<T> &rows, int first, int limit, int size, bool vectorised, int thread) {
    using Tile = SharedTile<T, Columns>;
#pragma unroll
    for (int index = thread; index < RowCount * Tile::chunks; index += Threads) {
        int row = index / Tile::chunks, chunk = index % Tile::chunks;
        const int column = chunk * chunkElements<T>;
        if (first + row >= limit || column >= size) continue;
        uint32_t values[4];
        asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                     : "=r"(values[0]), "=r"(values[1]), "=r"(values[2]), "=r"(values[3])
                     : "r"(tile + Tile::offset(row, chunk)));
        storeChunk(rows.row(first + row) + column, values, size - column, vectorised);
    }
}
