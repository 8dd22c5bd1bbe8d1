// FlashAttention-2, backward, dQ alone: the second pass of the deterministic mode.
//
// Each block owns a query tile and adds up dQ over the key tiles in their order, in registers: no atomics, so
// the same bits every time, for two more products a tile than flash_attention_2_backward.cuh's step 11 costs.
//
//   1. A block takes one query tile i of one head: load Qi, dOi, lse and delta; dQ = 0.
//   2. For each key tile j that the plan gives to i:
//   3.   load Kj, Vj (a tile ahead, asynchronously)
//   4.   P = exp(Qi Kjᵀ - lse), masked
//   5.   dS = P ∘ (dOi Vjᵀ - delta)
//   6.   dQ += dS Kj
//   7. dQ = scale dQ
// Work: 6 Nq Nk D FLOPs a head when D = Dv. Shared memory: (2 Br + 4 Bc) D elements.
#pragma once

#include "backward_tile_steps.cuh"
#include "block_order.cuh"
#include "online_softmax_rows.cuh"

template <typename T, int D, int KeyTile, int Warps>
struct FlashAttention2BackwardQuery {
    static constexpr int threads = Warps * 32, QueryTile = Warps * 16, queryTile = QueryTile,
                         keyTile = KeyTile;
    static constexpr int keyFragments = KeyTile / 8;
    static constexpr int scoreSteps = sizeof(T) == 4 ? 4 : D / stepColumns<T>; // at each turn of the loop
    static constexpr int queryBytes = SharedTile<T, D>::bytes(QueryTile);
    static constexpr int keyBytes = SharedTile<T, D>::bytes(KeyTile);
    static constexpr int sharedBytes = 2 * queryBytes + 4 * keyBytes;
    using Plan = TilePlan<QueryTile, KeyTile>;

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        const uint32_t Qs = sharedAddress(memory), dOs = Qs + queryBytes, Ks = dOs + queryBytes;
        const uint32_t Vs = Ks + 2 * keyBytes;
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const int queryTiles = tileCount(launch.queryLength, QueryTile);
        const BlockOrder order(launch, queryTiles, launch.batch * launch.heads);
        const int i = queryTiles - 1 - order.rank;
        const int batch = order.pair / launch.heads, head = order.pair % launch.heads;
        const int keyHead = head / launch.groupSize;
        const Plan plan(launch, batch);
        const TileRange rows = plan.queries(i), tiles = plan.keyTiles(i), whole = plan.wholeKeyTiles(i);
        const TileRange visible = plan.visibleKeys(rows); // a key that no row sees is not read
        auto loadKeys = [&](int j, int stage) {
            copyTile<T, D, KeyTile, threads>(
                Ks + stage * keyBytes, Rows<const T>(launch.key, batch, keyHead), j * KeyTile, visible.upper,
                launch.headSize, launch.vectorised);
            copyTile<T, D, KeyTile, threads>(
                Vs + stage * keyBytes, Rows<const T>(launch.value, batch, keyHead), j * KeyTile,
                visible.upper, launch.valueHeadSize, launch.vectorised);
        };
        copyTile<T, D, QueryTile, threads>(
            Qs, Rows<const T>(launch.query, batch, head), rows.lower, rows.upper, launch.headSize,
            launch.vectorised);
        copyTile<T, D, QueryTile, threads>(
            dOs, Rows<const T>(launch.outputGradient, batch, head), rows.lower, rows.upper,
            launch.valueHeadSize, launch.vectorised);
        if (!tiles.isEmpty()) loadKeys(tiles.lower, 0);
        commitCopies();

        // This lane's two rows; the working memory is padded, so that all of a tile's rows have terms.
        const int firstRow = rows.lower + warp * 16 + lane / 4;
        const int64_t paddedRows = paddedRowCount(launch);
        const float2 *terms =
            reinterpret_cast<const float2 *>(launch.rowTerms) + order.pair * paddedRows + firstRow;
        const float2 upper = terms[0], lower = terms[8];

        const FragmentReader<T, D> Qi(
            Qs + SharedTile<T, D>::bytes(warp * 16), laneRowA(lane), laneHalfA(lane));
        const FragmentReader<T, D> K0(Ks, laneRowB(lane), laneHalfB(lane));
        const TransposedReader<T, D> Kt(Ks, 0, lane);
        float dQ[1][D / 8][4];
        clear(dQ);
#pragma unroll 1
        for (int j = tiles.lower; j < tiles.upper; ++j) {
            const int stage = (j - tiles.lower) & 1;
            waitForCopies<0>();
            __syncthreads();
            if (j + 1 < tiles.upper) loadKeys(j + 1, stage ^ 1);
            commitCopies();
            float P[1][keyFragments][4], dS[1][keyFragments][4];
            clear(P);
            multiplyRows<T, D / stepColumns<T>, scoreSteps>(P, Qi, K0.advanced(stage * keyBytes));
#pragma unroll
            for (int f = 0; f < keyFragments; ++f)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const float2 row = e < 2 ? upper : lower;
                    P[0][f][e] = exp2Approximate(fmaf(P[0][f][e], launch.softmaxScaleLog2, -row.x));
                    dS[0][f][e] = -row.y;
                }
            multiplyRows<T, D / stepColumns<T>, scoreSteps>(
                dS, Qi.advanced(queryBytes), K0.advanced((2 + stage) * keyBytes));
            scoresGradient(dS, P);
            if (!whole.contains(j)) maskQueryRows(dS, plan, firstRow, j * KeyTile + 2 * (lane % 4));
            LeftOperand<T, 1, KeyTile> packed;
            packOperand<T>(packed, dS);
            multiplyRegisters<T>(dQ, packed, Kt.advanced(stage * keyBytes));
        }
        waitForCopies<0>();
        __syncthreads();
        if (mayLeak<T>(launch) && __any_sync(~0u, !isFinite(dQ))) {
            const int first = rows.lower + warp * 16;
            recomputeQueryGradients<T>(launch, order.pair, first, min(first + 16, rows.upper));
            return;
        }
        storeFragments<T, D>(Qs, dQ, launch.softmaxScale, warp * 16, 0, lane);
        __syncwarp();
        storeTile<T, D, 16, 32>(
            Qs + SharedTile<T, D>::bytes(warp * 16), Rows<T>(launch.queryGradient, batch, head),
            rows.lower + warp * 16, rows.upper, launch.headSize, launch.vectorised, lane);
    }

private:
    // dS = 0 where the row does not see the key or does not exist.
    __device__ static void maskQueryRows(
        float (&dS)[1][keyFragments][4], const Plan &plan, int firstRow, int firstKey) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = firstRow + 8 * r;
            const TileRange visible = row < plan.queryLength ? plan.visibleKeys(row) : TileRange{0, 0};
#pragma unroll
            for (int f = 0; f < keyFragments; ++f)
#pragma unroll
                for (int c = 0; c < 2; ++c)
                    if (!visible.contains(firstKey + 8 * f + c)) dS[0][f][2 * r + c] = 0;
        }
    }
};
