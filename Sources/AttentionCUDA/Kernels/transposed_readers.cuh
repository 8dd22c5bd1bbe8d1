// How a lane reads operands that lie the other way in shared memory: the right operand of c += A B, [k][n],
// and a left one that lies [k][m].
//
// In 16 bits ldmatrix transposes them on their way, 16 rows a step. It cannot do so for elements of 32 bits:
// in F32 a lane reads of a step's 8 rows 2 (l % 4) + {0, 1}, two columns at once. Fragments then have their k
// in another order, even ones first, which is the one in which a product's own fragments are a left operand;
// and of each 16 columns (rows, for a left operand) another order too, see storeFragments.
#pragma once

#include "shared_tile.cuh"

// Columns that one step of a product takes of an operand by rows: 32 bytes.
template <typename T>
constexpr int stepColumns = 32 / int(sizeof(T));

// In F32: what a lane reads of a tile that lies [k][…], in steps of 8 rows, 16 columns at a time: elements
// 2 (l / 4) + {0, 1} of rows 2 (l % 4) + {0, 1}.
template <int Columns>
struct LaneColumns {
    using Tile = SharedTile<float, Columns>;
    uint32_t base[2][2]; // by row and by the parity of the 16 columns: other addresses are constants away

    // - column: the first one, a multiple of 16.
    __device__ LaneColumns(uint32_t tile, int column, int lane) {
#pragma unroll
        for (int r = 0; r < 2; ++r)
#pragma unroll
            for (int v = 0; v < 2; ++v)
                base[r][v] =
                    tile + Tile::elementOffset(2 * (lane % 4) + r, column + 16 * v + lane / 4 * 2);
    }
    // words[r]: the two elements of a row.
    __device__ void load(uint32_t (&words)[2][2], int step, int index) const {
#pragma unroll
        for (int r = 0; r < 2; ++r)
            loadShared(words[r], base[r][index % 2] + step * 8 * Tile::rowBytes + index / 2 * 128);
    }
    __device__ LaneColumns advanced(uint32_t bytes) const {
        LaneColumns other = *this;
#pragma unroll
        for (int r = 0; r < 2; ++r)
#pragma unroll
            for (int v = 0; v < 2; ++v) other.base[r][v] += bytes;
        return other;
    }
};

// An operand of a product from a tile that lies [k][…], k by rows: the right one of c += A B, or a left one.
template <typename T, int Columns, bool Left>
struct TransposedOperand {
    static constexpr int stepBytes = stepColumns<T> * SharedTile<T, Columns>::rowBytes;
    FragmentReader<T, Columns> rows;

    // - fragment: an even one; the first column is 8 times that.
    __device__ TransposedOperand(uint32_t tile, int fragment, int lane)
        : rows(
              tile, Left ? laneRowB(lane) : laneRowA(lane),
              fragment + (Left ? laneHalfB(lane) : laneHalfA(lane))) {}
    // Of a tile `distance` bytes from the one whose left operands `A` reads by rows, all columns: a right
    // operand is read from the same rows and halves.
    __device__ TransposedOperand(const FragmentReader<T, Columns> &A, uint32_t, uint32_t distance, int)
        : rows(A.advanced(distance)) {
        static_assert(!Left);
    }

    // One step of the index'th 16 columns: two fragments of a right operand, a row tile of a left one.
    __device__ void load(uint32_t (&words)[4], int step, int index) const {
        loadMatricesTransposed(words, rows.address(index, 16 * step));
    }
    __device__ TransposedOperand advanced(uint32_t bytes) const {
        TransposedOperand other = *this;
        other.rows = rows.advanced(bytes);
        return other;
    }
};

// In F32 rows l / 4 and l / 4 + 8 of a left operand's row tile are 2 (l / 4) and the next.
template <int Columns, bool Left>
struct TransposedOperand<float, Columns, Left> {
    static constexpr int stepBytes = stepColumns<float> * SharedTile<float, Columns>::rowBytes;
    LaneColumns<Columns> columns;

    __device__ TransposedOperand(uint32_t tile, int fragment, int lane) : columns(tile, fragment * 8, lane) {}
    __device__ TransposedOperand(
        const FragmentReader<float, Columns> &, uint32_t tileOfA, uint32_t distance, int lane)
        : columns(tileOfA + distance, 0, lane) {}

    __device__ void load(uint32_t (&words)[4], int step, int index) const {
        uint32_t elements[2][2];
        columns.load(elements, step, index);
#pragma unroll
        for (int e = 0; e < 4; ++e)
            words[e] = Left ? elements[e / 2][e % 2] : elements[e % 2][e / 2];
    }
    __device__ TransposedOperand advanced(uint32_t bytes) const {
        TransposedOperand other = *this;
        other.columns = columns.advanced(bytes);
        return other;
    }
};

template <typename T, int Columns>
using TransposedReader = TransposedOperand<T, Columns, false>;
template <typename T, int Columns>
using TransposedLeftReader = TransposedOperand<T, Columns, true>;
