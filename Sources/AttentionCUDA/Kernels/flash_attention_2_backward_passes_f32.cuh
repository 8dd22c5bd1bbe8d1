// FlashAttention-2, backward, F32, without atomics: one pass for dK and dV, one for dQ, so that the result is
// the same bits every time. It computes S and dP twice, in tiles of 64 that are quick to fill: for small
// problems, and its second pass for the deterministic mode of all.
//
// Source: Dao, arXiv 2307.08691, Algorithm 2; the split into two passes as in metal-flash-attention.
//
//   1. Keys: for each query tile that visits key tile j:
//   2.   delta = rowsum(dO ∘ O)                             loadTerms
//   3.   P = exp(Q Kᵀ - lse), dS = P ∘ (dO Vᵀ - delta)      probabilities: gemmNT twice
//   4.   dV += Pᵀ dO, dK += dSᵀ Q                           gemmTN twice
//   5. Query: for each key tile that query tile i visits: 3. again, dQ += dS K (gemmNN).
// Shared memory: 4 Tile (D + 4) + 2 Tile (Tile + 4) + 2 Tile floats.
#pragma once

#include "block_order.cuh"
#include "flash_attention_2_backward_rows.cuh"
#include "float_tile_steps.cuh"
#include "kernel_entry.cuh"

template <int D, int Tile>
struct FlashAttention2BackwardPassesF32 {
    static constexpr int rowsOfThread = Tile / 16, columnsOfThread = D / 16;
    static constexpr int pitch = floatPitch(D), scorePitch = floatPitch(Tile);
    static constexpr int threads = floatThreads, queryTile = Tile, keyTile = Tile;
    static constexpr int sharedBytes = (4 * Tile * pitch + 2 * Tile * scorePitch + 2 * Tile) * 4;
    using Plan = TilePlan<Tile, Tile>;
    using Scores = float[rowsOfThread][rowsOfThread];
    using Product = float[rowsOfThread][columnsOfThread];

    struct Memory {
        float *Q, *dO, *K, *V, *P, *dS;
        float2 *terms; // lse and delta of the query tile

        __device__ explicit Memory(unsigned char *memory)
            : Q(reinterpret_cast<float *>(memory)), dO(Q + Tile * pitch), K(dO + Tile * pitch),
              V(K + Tile * pitch), P(V + Tile * pitch), dS(P + Tile * scorePitch),
              terms(reinterpret_cast<float2 *>(dS + Tile * scorePitch)) {}

        __device__ void loadQueries(const AttentionLaunch &launch, int batch, int head, int first) {
            loadFloatTile<float, Tile, D>(
                Q, Rows<const float>(launch.query, batch, head), first, launch.queryLength, launch.headSize,
                launch.vectorised);
            loadFloatTile<float, Tile, D>(
                dO, Rows<const float>(launch.outputGradient, batch, head), first, launch.queryLength,
                launch.valueHeadSize, launch.vectorised);
        }
        // Once dO is there. The sum is in the order of dP's: see BackwardPrepare.
        __device__ void loadTerms(const AttentionLaunch &launch, int batch, int head, int first) {
            constexpr int lanes = threads / Tile;
            const int row = threadIdx.x / lanes, lane = threadIdx.x % lanes;
            float delta = 0, offset = INFINITY;
            if (first + row < launch.queryLength) {
                const float *O = Rows<const float>(launch.output, batch, head).row(first + row);
                if (lane == 0)
#pragma unroll 16
                    for (int d = 0; d < launch.valueHeadSize; ++d)
                        delta = fmaf(dO[row * pitch + d], O[d], delta);
                const float *lse = reinterpret_cast<const float *>(launch.logSumExp);
                offset = backwardOffset(
                    lse[(int64_t(batch) * launch.heads + head) * launch.queryLength + first + row]);
            }
            if (lane == 0) terms[row] = make_float2(offset, delta);
        }
        __device__ void loadKeys(
            const AttentionLaunch &launch, int batch, int keyHead, int first, int limit) {
            loadFloatTile<float, Tile, D>(
                K, Rows<const float>(launch.key, batch, keyHead), first, limit, launch.headSize,
                launch.vectorised);
            loadFloatTile<float, Tile, D>(
                V, Rows<const float>(launch.value, batch, keyHead), first, limit, launch.valueHeadSize,
                launch.vectorised);
        }
    };

    // Both passes. Grid: key tiles × Hkv × B, and then query tiles × H × B.
    __device__ static void run(const AttentionLaunch &launch) {
        const int keyBlocks = tileCount(launch.keyLength, Tile) * launch.batch * launch.keyValueHeads;
        if (int(blockIdx.x) < keyBlocks)
            runKeys(launch);
        else
            runQuery(launch, blockIdx.x - keyBlocks);
    }

    // Grid: query tiles × H × B.
    __device__ static void runQuery(const AttentionLaunch &launch) { runQuery(launch, blockIdx.x); }

private:
    __device__ static void runKeys(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char bytes[];
        Memory memory(bytes);
        const int keyTiles = tileCount(launch.keyLength, Tile);
        const BlockOrder order(launch, keyTiles, launch.batch * launch.keyValueHeads);
        const int j = order.rank, batch = order.pair / launch.keyValueHeads;
        const int keyHead = order.pair % launch.keyValueHeads;
        const Plan plan(launch, batch);
        const TileRange keys = plan.keys(j), tiles = plan.queryTiles(j);
        memory.loadKeys(launch, batch, keyHead, j * Tile, keys.upper);
        Product dK, dV;
        clear(dK);
        clear(dV);
        for (int g = 0; g < launch.groupSize; ++g)
#pragma unroll 1
            for (int i = tiles.lower; i < tiles.upper; ++i) {
                const int head = keyHead * launch.groupSize + g;
                __syncthreads();
                memory.loadQueries(launch, batch, head, i * Tile);
                commitCopies();
                waitForCopies<0>();
                __syncthreads();
                memory.loadTerms(launch, batch, head, i * Tile);
                __syncthreads();
                Scores P, dS;
                probabilities(P, dS, memory, launch, plan, i, j);
                store(memory.P, P);
                store(memory.dS, dS);
                __syncthreads();
                if (plan.isWhole(i, j)) {
                    gemmTN<Tile, scorePitch, pitch, false>(dV, memory.P, memory.dO);
                    gemmTN<Tile, scorePitch, pitch, false>(dK, memory.dS, memory.Q);
                } else {
                    gemmTN<Tile, scorePitch, pitch, true>(dV, memory.P, memory.dO);
                    gemmTN<Tile, scorePitch, pitch, true>(dK, memory.dS, memory.Q);
                }
            }
        waitForCopies<0>();
        storeProduct(
            dK, Rows<float>(launch.keyGradient, batch, keyHead), j * Tile, launch.keyLength, launch.headSize,
            [&](int) { return launch.softmaxScale; });
        storeProduct(
            dV, Rows<float>(launch.valueGradient, batch, keyHead), j * Tile, launch.keyLength,
            launch.valueHeadSize, [](int) { return 1.0f; });
    }

    __device__ static void runQuery(const AttentionLaunch &launch, unsigned block) {
        extern __shared__ __align__(1024) unsigned char bytes[];
        Memory memory(bytes);
        const int queryTiles = tileCount(launch.queryLength, Tile);
        const BlockOrder order(launch, queryTiles, launch.batch * launch.heads, block);
        const int i = queryTiles - 1 - order.rank;
        const int batch = order.pair / launch.heads, head = order.pair % launch.heads;
        const Plan plan(launch, batch);
        const TileRange tiles = plan.keyTiles(i);
        memory.loadQueries(launch, batch, head, i * Tile);
        Product dQ;
        clear(dQ);
#pragma unroll 1
        for (int j = tiles.lower; j < tiles.upper; ++j) {
            __syncthreads();
            memory.loadKeys(launch, batch, head / launch.groupSize, j * Tile, plan.keyLength);
            commitCopies();
            waitForCopies<0>();
            __syncthreads();
            if (j == tiles.lower) memory.loadTerms(launch, batch, head, i * Tile);
            __syncthreads();
            Scores P, dS;
            probabilities(P, dS, memory, launch, plan, i, j);
            store(memory.dS, dS);
            __syncthreads();
            if (plan.isWhole(i, j))
                gemmNN<Tile, scorePitch, pitch, false>(dQ, memory.dS, memory.K);
            else
                gemmNN<Tile, scorePitch, pitch, true>(dQ, memory.dS, memory.K);
        }
        waitForCopies<0>();
        storeProduct(
            dQ, Rows<float>(launch.queryGradient, batch, head), i * Tile, launch.queryLength, launch.headSize,
            [&](int) { return launch.softmaxScale; });
    }

    __device__ static void probabilities(
        Scores &P, Scores &dS, const Memory &memory, const AttentionLaunch &launch, const Plan &plan, int i,
        int j) {
        clear(P);
        clear(dS);
        gemmNT<D, pitch, pitch>(P, memory.Q, memory.K);
        gemmNT<D, pitch, pitch>(dS, memory.dO, memory.V);
        const bool whole = plan.isWhole(i, j);
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const int row = i * Tile + threadY() * rowsOfThread + r;
            const float2 term = memory.terms[threadY() * rowsOfThread + r];
            const TileRange visible = row < launch.queryLength ? plan.visibleKeys(row) : TileRange{0, 0};
#pragma unroll
            for (int c = 0; c < rowsOfThread; ++c) {
                const float p = exp2Approximate(fmaf(P[r][c], launch.softmaxScaleLog2, -term.x));
                const bool seen = whole || visible.contains(j * Tile + threadX() + 16 * c);
                P[r][c] = seen ? p : hidden;
                dS[r][c] = seen ? scoreGradient(p, dS[r][c], term.y) : hidden;
            }
        }
    }

    __device__ static void store(float *tile, const Scores &values) {
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r)
#pragma unroll
            for (int c = 0; c < rowsOfThread; ++c)
                tile[(threadY() * rowsOfThread + r) * scorePitch + threadX() + 16 * c] = values[r][c];
    }
};
