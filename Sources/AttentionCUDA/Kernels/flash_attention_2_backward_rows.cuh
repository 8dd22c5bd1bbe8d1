// The two row passes around FlashAttention-2's backward kernel: before it delta, after it dQ.
//
// Source: Dao, arXiv 2307.08691, Algorithm 2, line 4, and section 3.2.2 for the sum of dQ.
#pragma once

#include "online_softmax_rows.cuh"
#include "tile_products.cuh"

// What the backward pass subtracts to get P from S: the lse in log2 units; +inf for an empty row, so that
// P = 0.
__device__ inline float backwardOffset(float logSumExp) {
    return logSumExp == -INFINITY ? INFINITY : logSumExp * 1.4426950408889634f;
}

// Before: rowTerms = (lse, delta), and dQ's sum cleared if there is one. A block takes 32 rows of one head,
// eight lanes a row; grid (Nr / 32, B H), 256 threads. D is the bucket of the head size.
//
// InOrder: delta is summed in the order in which the algorithms that multiply with FFMAs sum dP in F32. Where
// a row sees one key, O is V, and so delta is dP to the last bit and dS is 0, as it should be.
template <typename T, int D, bool InOrder = false>
struct BackwardPrepare {
    static constexpr int threads = 256, sharedBytes = 0, rowsPerBlock = 32, queryTile = rowsPerBlock,
                         keyTile = 0;

    __device__ static void run(const AttentionLaunch &launch) {
        const int lane = threadIdx.x % 8, row = blockIdx.x * rowsPerBlock + threadIdx.x / 8;
        const int batch = blockIdx.y / launch.heads, head = blockIdx.y % launch.heads;
        const int64_t paddedRow = int64_t(blockIdx.y) * paddedRowCount(launch) + row;
        float delta = 0, offset = INFINITY;
        if (row < launch.queryLength) {
            const T *dO = Rows<const T>(launch.outputGradient, batch, head).row(row);
            const T *O = Rows<const T>(launch.output, batch, head).row(row);
            if constexpr (InOrder)
                delta = lane == 0 ? dotInOrder(dO, O, launch.valueHeadSize) : 0;
            else
                delta = dot(dO, O, launch.valueHeadSize, launch.vectorised, lane);
            const float *lse = reinterpret_cast<const float *>(launch.logSumExp);
            offset = backwardOffset(lse[int64_t(blockIdx.y) * launch.queryLength + row]);
        }
#pragma unroll
        for (int distance = 1; distance < 8; distance *= 2) delta += __shfl_xor_sync(~0u, delta, distance);
        if (lane == 0) reinterpret_cast<float2 *>(launch.rowTerms)[paddedRow] = make_float2(offset, delta);
        if (InOrder || !launch.gradientSum) return;
        float4 *sum =
            reinterpret_cast<float4 *>(launch.gradientSum) + (paddedRow - threadIdx.x / 8) * (D / 4);
#pragma unroll
        for (int q = 0; q < rowsPerBlock * D / 4 / threads; ++q)
            sum[q * threads + threadIdx.x] = make_float4(0, 0, 0, 0);
    }

private:
    // One lane's part of the product of two rows: every eighth 16 bytes. In F32 the order of the sum is the
    // same wherever the rows lie, so that the deterministic mode's bits are.
    __device__ static float dot(const T *a, const T *b, int size, bool vectorised, int lane) {
        constexpr int count = chunkElements<T>;
        float sum = 0;
        if (vectorised) {
            for (int chunk = lane; chunk * count < size; chunk += 8) {
                const uint4 x = reinterpret_cast<const uint4 *>(a)[chunk];
                const uint4 y = reinterpret_cast<const uint4 *>(b)[chunk];
                if constexpr (sizeof(T) == 4)
                    sum = dotInOrder(
                        reinterpret_cast<const float *>(&x), reinterpret_cast<const float *>(&y), 4, sum);
                else
                    sum += dotPair(x.x, y.x) + dotPair(x.y, y.y) + dotPair(x.z, y.z) + dotPair(x.w, y.w);
            }
        } else if constexpr (sizeof(T) == 4) {
            for (int d = lane * count; d < size; d += 8 * count)
                sum = dotInOrder(a + d, b + d, min(count, size - d), sum);
        } else {
            for (int d = lane; d < size; d += 8) sum += Format<T>::widen(a[d]) * Format<T>::widen(b[d]);
        }
        return sum;
    }
    // sum + a · b, one after the other.
    __device__ static float dotInOrder(const float *a, const float *b, int size, float sum = 0) {
#pragma unroll 4
        for (int d = 0; d < size; ++d) sum = fmaf(a[d], b[d], sum);
        return sum;
    }
    __device__ static float dotPair(uint32_t a, uint32_t b) {
        const float2 x = Format<T>::unpack(a), y = Format<T>::unpack(b);
        return x.x * y.x + x.y * y.y;
    }
};

// Where addQueryGradient puts the rows and columns of dQ's sum: in fragments of 16 rows × 8 columns, four
// floats a lane. Lanes 4 p to 4 p + 3 of a fragment have the p'th pair of rows.
template <typename T, int D>
struct QueryGradientOrder {
    static constexpr int fragments = D / 8;

    // 16 bits: (row l / 4, columns 2 (l % 4) + {0, 1}), then the same of row l / 4 + 8. F32: columns as
    // for storeFragments, and rows 2 (l / 4) + {0, 1} of dS as storeOperand leaves them, even ones first.
    static constexpr int distance = sizeof(T) == 2 ? 8 : 2;
    __device__ static int firstRow(int pair) {
        const int p = pair % 8;
        return pair / 8 * 16 + (sizeof(T) == 2 ? p : p / 4 * 8 + p % 2 * 4 + p % 4 / 2);
    }

    // Eight columns of a pair's two rows.
    __device__ static void load(
        float (&upper)[8], float (&lower)[8], const float4 *sum, int64_t pair, int column) {
        const float4 *row = sum + pair / 8 * fragments * 32 + pair % 8 * 4;
        if constexpr (sizeof(T) == 2) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float4 v = row[column / 8 * 32 + e];
                upper[2 * e] = v.x, upper[2 * e + 1] = v.y, lower[2 * e] = v.z, lower[2 * e + 1] = v.w;
            }
        } else {
            // Four columns of each of two lanes.
#pragma unroll
            for (int c = 0; c < 8; c += 4)
#pragma unroll
                for (int q = 0; q < 2; ++q) {
                    const float4 v = row[(column / 16 * 2 + q) * 32 + (column + c) / 4 % 4];
                    upper[c + q] = v.x, upper[c + 2 + q] = v.y, lower[c + q] = v.z, lower[c + 2 + q] = v.w;
                }
        }
    }
};

// After: dQ = scale · sum. A lane gathers eight columns of two rows, a warp whole rows. Grid
// (ceil(Nr / queryTile), B H), 256 threads.
template <typename T, int D>
struct BackwardFinish {
    using Order = QueryGradientOrder<T, D>;
    static constexpr int fragments = D / 8, pairsOfWarp = 32 / fragments;
    static constexpr int threads = 256, sharedBytes = 0, queryTile = threads / 32 * pairsOfWarp * 2,
                         keyTile = 0;

    __device__ static void run(const AttentionLaunch &launch) {
        const int lane = threadIdx.x % 32, column = lane % fragments * 8;
        const int firstPair = (blockIdx.x * (threads / 32) + threadIdx.x / 32) * pairsOfWarp;
        const int pair = firstPair + lane / fragments, row = Order::firstRow(pair);
        const bool exists =
            lane / fragments < pairsOfWarp && row < launch.queryLength && column < launch.headSize;
        float dQ[2][8] = {};
        if (exists)
            Order::load(
                dQ[0], dQ[1], reinterpret_cast<const float4 *>(launch.gradientSum),
                int64_t(blockIdx.y) * (paddedRowCount(launch) / 2) + pair, column);
        if (mayLeak<T>(launch) && __any_sync(~0u, !isFinite(dQ))) {
            recompute(launch, firstPair);
            return;
        }
        if (!exists) return;
        const Rows<T> rows(launch.queryGradient, blockIdx.y / launch.heads, blockIdx.y % launch.heads);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int at = row + r * Order::distance;
            if (at < launch.queryLength)
                store(rows.row(at) + column, dQ[r], launch.softmaxScale, launch.headSize - column,
                      launch.vectorised);
        }
    }

private:
    // The first `size` of eight columns.
    __device__ static void store(T *target, const float (&dQ)[8], float scale, int size, bool vectorised) {
        constexpr int count = chunkElements<T>;
#pragma unroll
        for (int c = 0; c < 8; c += count) {
            uint32_t words[4];
#pragma unroll
            for (int e = 0; e < 4; ++e)
                if constexpr (sizeof(T) == 4)
                    words[e] = __float_as_uint(dQ[c + e] * scale);
                else
                    words[e] = Format<T>::pack(dQ[2 * e] * scale, dQ[2 * e + 1] * scale);
            if (c < size) storeChunk(target + c, words, size - c, vectorised);
        }
    }

    // All rows of the warp.
    __device__ static void recompute(const AttentionLaunch &launch, int firstPair) {
#pragma unroll 1
        for (int p = 0; p < pairsOfWarp; ++p)
#pragma unroll 1
            for (int r = 0; r < 2; ++r) {
                const int row = Order::firstRow(firstPair + p) + r * Order::distance;
                recomputeQueryGradients<T>(launch, blockIdx.y, row, min(row + 1, launch.queryLength));
            }
    }
};
