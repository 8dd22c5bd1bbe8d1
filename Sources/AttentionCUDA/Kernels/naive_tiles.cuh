// What the naive algorithm's forward and backward passes share: tiles of S, P and dS in device memory.
//
// P and dS are [B, H, Nq, Nk] floats. Every product is made of 64 × 64 tiles of F32 FFMAs, whatever the
// format.
#pragma once

#include "float_tile_steps.cuh"

// What the tile kernels share: 64 × 64 tiles of one matrix, its reduction cut into steps of 64.
struct NaiveTiles {
    static constexpr int tile = 64, step = 64, pitch = floatPitch(64), threads = floatThreads;
    static constexpr int queryTile = tile, keyTile = tile;
    static constexpr int sharedBytes = 2 * tile * pitch * 4;
    using Plan = TilePlan<tile, tile>;
    using Product = float[4][4];

    __device__ static float *scores(uint64_t address, const AttentionLaunch &launch, int pair) {
        return reinterpret_cast<float *>(address) + int64_t(pair) * launch.queryLength * launch.keyLength;
    }

    // Of the row that a block of a row-wise kernel has, grid (Nq, B H).
    __device__ static TileRange visibleKeys(const AttentionLaunch &launch) {
        return Plan(launch, blockIdx.y / launch.heads).visibleKeys(int(blockIdx.x));
    }

    // One matrix of scores as rows of floats.
    __device__ static Rows<const float> scoreRows(uint64_t address, const AttentionLaunch &launch, int pair) {
        const TileOperand operand = {
            address, 0, int64_t(launch.queryLength) * launch.keyLength, launch.keyLength};
        return Rows<const float>(operand, 0, pair);
    }

    // c = A Bᵀ over `size` columns of two tensors' rows.
    template <typename T>
    __device__ static void products(
        Product &c, const Rows<const T> &A, int firstA, int limitA, const Rows<const T> &B, int firstB,
        int limitB, int size) {
        extern __shared__ __align__(1024) unsigned char memory[];
        float *a = reinterpret_cast<float *>(memory), *b = a + tile * pitch;
        clear(c);
        for (int d = 0; d < size; d += step) {
            __syncthreads();
            loadFloatTile<T, tile, step>(a, A, firstA, limitA, size, false, d);
            loadFloatTile<T, tile, step>(b, B, firstB, limitB, size, false, d);
            __syncthreads();
            gemmNT<step, pitch, pitch>(c, a, b);
        }
    }

    // Runs the body for this thread's part of a tile of scores, as far as they exist: a score's place in its
    // matrix, its row, what the tile of products has for it, and whether the mask shows it.
    template <typename Body>
    __device__ static void forEachScore(
        const AttentionLaunch &launch, const Plan &plan, int firstRow, int firstKey, const Product &products,
        Body body) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int row = firstRow + threadY() * 4 + r;
            if (row >= launch.queryLength) continue;
            const TileRange visible = plan.visibleKeys(row);
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const int key = firstKey + threadX() + 16 * c;
                const int64_t place = int64_t(row) * launch.keyLength + key;
                if (key < launch.keyLength) body(place, row, products[r][c], visible.contains(key));
            }
        }
    }
};

// S. Grid (ceil(Nk / 64), ceil(Nq / 64), B H).
template <typename T>
struct NaiveScores : NaiveTiles {
    __device__ static void run(const AttentionLaunch &launch) {
        const int pair = blockIdx.z, batch = pair / launch.heads, head = pair % launch.heads;
        const int firstRow = blockIdx.y * tile, firstKey = blockIdx.x * tile;
        const Plan plan(launch, batch);
        Product S;
        products(
            S, Rows<const T>(launch.query, batch, head), firstRow, launch.queryLength,
            Rows<const T>(launch.key, batch, head / launch.groupSize), firstKey, plan.keyLength,
            launch.headSize);
        float *target = scores(launch.scores, launch, pair);
        forEachScore(
            launch, plan, firstRow, firstKey, S, [&](int64_t place, int, float product, bool isVisible) {
                target[place] = isVisible ? product * launch.softmaxScale : -INFINITY;
            });
    }
};

// C = factor · M B, M being P or dS: O = P V and dQ = scale dS K. Grid (ceil(columns / 64), ceil(Nq / 64), B
// H).
template <typename T, bool Gradient>
struct NaiveRowProduct : NaiveTiles {
    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        float *a = reinterpret_cast<float *>(memory), *b = a + tile * pitch;
        const int pair = blockIdx.z, batch = pair / launch.heads, head = pair % launch.heads;
        const int firstRow = blockIdx.y * tile, firstColumn = blockIdx.x * tile;
        const int size = Gradient ? launch.headSize : launch.valueHeadSize;
        const Plan plan(launch, batch);
        const Rows<const float> M = scoreRows(Gradient ? launch.scoresGradient : launch.scores, launch, pair);
        const Rows<const T> B(Gradient ? launch.key : launch.value, batch, head / launch.groupSize);
        Product c;
        clear(c);
        for (int key = 0; key < plan.keyLength; key += step) {
            __syncthreads();
            loadFloatTile<float, tile, step>(a, M, firstRow, launch.queryLength, plan.keyLength, false, key);
            loadFloatTile<T, step, tile>(b, B, key, plan.keyLength, size, false, firstColumn);
            __syncthreads();
            gemmNN<step, pitch, pitch, true>(c, a, b);
        }
        storeProduct(
            c, Rows<T>(Gradient ? launch.queryGradient : launch.output, batch, head), firstRow,
            launch.queryLength, size, [&](int) { return Gradient ? launch.softmaxScale : 1.0f; },
            firstColumn);
    }
};
