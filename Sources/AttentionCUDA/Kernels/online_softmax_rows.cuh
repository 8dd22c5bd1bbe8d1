// What the online-softmax algorithm's forward and backward passes share: one row held by one warp.
//
// Lane l holds elements l, l + 32, … of every row.
#pragma once

#include "shared_tile.cuh"

// One row, shared out over a warp.
struct WarpRow {
    static constexpr int parts = 8; // up to 256 elements
    float x[parts];

    __device__ static WarpRow zero() {
        WarpRow row;
#pragma unroll
        for (int p = 0; p < parts; ++p) row.x[p] = 0;
        return row;
    }
    template <typename T>
    __device__ static WarpRow load(const T *source, int size) {
        WarpRow row;
#pragma unroll
        for (int p = 0; p < parts; ++p) {
            const int d = p * 32 + threadIdx.x % 32;
            row.x[p] = d < size ? Format<T>::widen(source[d]) : 0;
        }
        return row;
    }
    template <typename T>
    __device__ void store(T *target, int size, float factor) const {
#pragma unroll
        for (int p = 0; p < parts; ++p) {
            const int d = p * 32 + threadIdx.x % 32;
            if (d < size) target[d] = Format<T>::narrow(x[p] * factor);
        }
    }
    __device__ float dot(const WarpRow &other) const {
        float sum = 0;
#pragma unroll
        for (int p = 0; p < parts; ++p) sum = fmaf(x[p], other.x[p], sum);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
        return sum;
    }
    // self = self · factor + other · weight
    __device__ void update(float factor, float weight, const WarpRow &other) {
#pragma unroll
        for (int p = 0; p < parts; ++p) x[p] = fmaf(weight, other.x[p], x[p] * factor);
    }
};

struct OnlineSoftmax {
    static constexpr int threads = 128, sharedBytes = 0, rowsPerBlock = threads / 32;
    static constexpr int queryTile = rowsPerBlock, keyTile = rowsPerBlock;
    using Plan = TilePlan<1, 1>;

    __device__ static int64_t paddedRows(const AttentionLaunch &launch) {
        return (launch.queryLength + TileRowPadding - 1) / TileRowPadding * TileRowPadding;
    }
};
