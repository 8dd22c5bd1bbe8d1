// What FlashAttention-1's forward and backward passes share: the shape of their tiles.
#pragma once

#include "float_tile_steps.cuh"

template <int D, int RowTile>
struct FlashAttention1Tiles {
    static constexpr int tile = RowTile, rowsOfThread = tile / 16, columnsOfThread = D / 16;
    static constexpr int pitch = floatPitch(D), scorePitch = floatPitch(tile), threads = floatThreads;
    static constexpr int queryTile = tile, keyTile = tile;
    using Plan = TilePlan<tile, tile>;
    using Scores = float[rowsOfThread][rowsOfThread];
    using Product = float[rowsOfThread][columnsOfThread];

    __device__ static void store(float *target, const Scores &values) {
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r)
#pragma unroll
            for (int c = 0; c < rowsOfThread; ++c)
                target[(threadY() * rowsOfThread + r) * scorePitch + threadX() + 16 * c] = values[r][c];
    }

    // Rows of floats in working memory, [pair][rows][size].
    __device__ static Rows<float> working(uint64_t address, int pair, int rows, int size) {
        const TileOperand operand = {address, 0, int64_t(rows) * size, size};
        return Rows<float>(operand, 0, pair);
    }
};
