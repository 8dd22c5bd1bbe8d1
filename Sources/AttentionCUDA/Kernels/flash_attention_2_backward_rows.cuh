// The two row passes around FlashAttention-2's backward kernel: before it delta, after it dQ.
//
// Source: Dao, arXiv 2307.08691, Algorithm 2, line 4, and section 3.2.2 for the sum of dQ.
#pragma once

#include "online_softmax_rows.cuh"
#include "shared_tile.cuh"

// What the backward pass subtracts to get P from S: the lse in log2 units; +inf for an empty row, so that
// P = 0.
__device__ inline float backwardOffset(float logSumExp) {
    return logSumExp == -INFINITY ? INFINITY : logSumExp * 1.4426950408889634f;
}

// Before: rowTerms = (lse, delta), and dQ's sum cleared. F32 has no such sum, and its FlashAttention-2 does
// all that in BackwardColumns. A block takes 32 rows of one head, eight lanes a row; grid (Nr / 32, B H), 256
// threads. D is the bucket of the head size.
template <typename T, int D>
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
            delta = dot(dO, O, launch.valueHeadSize, launch.vectorised, lane);
            const float *lse = reinterpret_cast<const float *>(launch.logSumExp);
            offset = backwardOffset(lse[int64_t(blockIdx.y) * launch.queryLength + row]);
        }
#pragma unroll
        for (int distance = 1; distance < 8; distance *= 2) delta += __shfl_xor_sync(~0u, delta, distance);
        if (lane == 0) reinterpret_cast<float2 *>(launch.rowTerms)[paddedRow] = make_float2(offset, delta);
        if (sizeof(T) == 4 || !launch.gradientSum) return;
        float4 *sum =
            reinterpret_cast<float4 *>(launch.gradientSum) + (paddedRow - threadIdx.x / 8) * (D / 4);
#pragma unroll
        for (int q = 0; q < rowsPerBlock * D / 4 / threads; ++q)
            sum[q * threads + threadIdx.x] = make_float4(0, 0, 0, 0);
    }

private:
    // One lane's part of the product of two rows. In F32 it is all done by the first, in the order of dP's
    // sum: where a row sees one key, O is V, and so delta is dP to the last bit and dS is 0, as it should be.
    __device__ static float dot(const T *a, const T *b, int size, bool vectorised, int lane) {
        float sum = 0;
        if constexpr (sizeof(T) == 4) {
            if (lane != 0) return 0;
            if (vectorised) {
#pragma unroll 4
                for (int d = 0; d < size; d += 4) {
                    const float4 x = *reinterpret_cast<const float4 *>(a + d);
                    const float4 y = *reinterpret_cast<const float4 *>(b + d);
                    sum = fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
                }
                return sum;
            }
#pragma unroll 4
            for (int d = 0; d < size; ++d) sum = fmaf(a[d], b[d], sum);
            return sum;
        } else {
            if (vectorised) {
                for (int chunk = lane; chunk * 8 < size; chunk += 8) {
                    const uint4 x = reinterpret_cast<const uint4 *>(a)[chunk];
                    const uint4 y = reinterpret_cast<const uint4 *>(b)[chunk];
                    sum += dotPair(x.x, y.x) + dotPair(x.y, y.y) + dotPair(x.z, y.z) + dotPair(x.w, y.w);
                }
                return sum;
            }
            for (int d = lane; d < size; d += 8) sum += Format<T>::widen(a[d]) * Format<T>::widen(b[d]);
            return sum;
        }
    }
    __device__ static float dotPair(uint32_t a, uint32_t b) {
        const float2 x = Format<T>::unpack(a), y = Format<T>::unpack(b);
        return x.x * y.x + x.y * y.y;
    }
};

// After: dQ = scale · sum. The sum lies in fragments of 16 rows × 8 columns, four floats a lane: (row l / 4,
// columns 2 (l % 4) + {0, 1}), then the same of row l / 4 + 8. A lane gathers eight columns of two rows, a
// warp whole rows. Grid (ceil(Nr / queryTile), B H), 256 threads.
template <typename T, int D>
struct BackwardFinish {
    static constexpr int fragments = D / 8, pairsOfWarp = 32 / fragments; // a pair: rows r and r + 8
    static constexpr int threads = 256, sharedBytes = 0, queryTile = threads / 32 * pairsOfWarp * 2,
                         keyTile = 0;

    __device__ static void run(const AttentionLaunch &launch) {
        const int lane = threadIdx.x % 32, column = lane % fragments * 8;
        const int firstPair = (blockIdx.x * (threads / 32) + threadIdx.x / 32) * pairsOfWarp;
        const int pair = firstPair + lane / fragments, row = firstRow(pair);
        const bool exists =
            lane / fragments < pairsOfWarp && row < launch.queryLength && column < launch.headSize;
        const int64_t fragment =
            (int64_t(blockIdx.y) * (paddedRowCount(launch) / 16) + pair / 8) * fragments + column / 8;
        const float4 *sum =
            reinterpret_cast<const float4 *>(launch.gradientSum) + fragment * 32 + pair % 8 * 4;
        float dQ[1][4][4] = {};
        if (exists)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float4 v = sum[e];
                dQ[0][e][0] = v.x, dQ[0][e][1] = v.y, dQ[0][e][2] = v.z, dQ[0][e][3] = v.w;
            }
        if (launch.mask != TileMaskFull && __any_sync(~0u, !isFinite(dQ))) {
            recompute(launch, firstPair);
            return;
        }
        if (!exists) return;
        uint32_t upper[4], lower[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            upper[e] = Format<T>::pack(dQ[0][e][0] * launch.softmaxScale, dQ[0][e][1] * launch.softmaxScale);
            lower[e] = Format<T>::pack(dQ[0][e][2] * launch.softmaxScale, dQ[0][e][3] * launch.softmaxScale);
        }
        const Rows<T> rows(launch.queryGradient, blockIdx.y / launch.heads, blockIdx.y % launch.heads);
        const int size = launch.headSize - column;
        storeChunk(rows.row(row) + column, upper, size, launch.vectorised);
        if (row + 8 < launch.queryLength)
            storeChunk(rows.row(row + 8) + column, lower, size, launch.vectorised);
    }

private:
    __device__ static int firstRow(int pair) { return pair / 8 * 16 + pair % 8; }

    // All rows of the warp.
    __device__ static void recompute(const AttentionLaunch &launch, int firstPair) {
#pragma unroll 1
        for (int p = 0; p < pairsOfWarp; ++p) {
            const int row = firstRow(firstPair + p);
            recomputeQueryGradients<T>(launch, blockIdx.y, row, min(row + 1, launch.queryLength));
            recomputeQueryGradients<T>(launch, blockIdx.y, row + 8, min(row + 9, launch.queryLength));
        }
    }
};
