// FlashAttention-2, forward, on tensor cores.
//
// Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
// arXiv 2307.08691, Algorithm 1 and sections 3.2 and 3.3.
//
//   1. A block takes one query tile i of one head, Br rows. Its warps share the rows out, not the keys.
//   2. Load Qi; start with O = 0, l = 0, m = -inf.
//   3. For each key tile j that the plan gives to i:
//   4.   load Kj, Vj (a tile ahead, asynchronously)
//   5.   S = Qi Kjᵀ                                        scores, maskTile
//   6.   m' = max(m, rowmax S), P = exp(S - m'),
//        l = e^(m - m') l + rowsum P                       onlineSoftmax
//   7.   O = e^(m - m') O + P Vj                           rescale, accumulate
//   8. O = O / l, lse = m + ln l                           finalize
//
// Deviations: exp is exp2 with the scale folded in; the rescale of step 7 waits until the maximum has grown
// by 2^8 (FlashAttention-4's rule; the result is the same function, m being any upper scale); the row sum is
// summed across lanes once, at the end. Work: 2 Nq Nk (D + Dv) FLOPs a head. Shared memory: (Br + 2 Stages
// Bc) D elements.
#pragma once

#include "block_order.cuh"
#include "forward_tile_steps.cuh"
#include "online_softmax_rows.cuh"

// Stages 2: K and V of the next tile come while this one is computed, one barrier a tile. Stages 1: V comes
// under the scores (the first one with Q and K) and the next K under the softmax, two barriers a tile and
// half the shared memory. QueryStays: Q is read from shared memory once and stays in registers. ScoreSteps:
// see ForwardTileSteps.
template <
    typename T, int D, int QueryTile, int KeyTile, int Warps, int Stages, bool QueryStays = false,
    int ScoreSteps = stepsATurn<T, D / stepColumns<T>>>
struct FlashAttention2Forward {
    static constexpr int threads = Warps * 32, queryTile = QueryTile, keyTile = KeyTile;
    static constexpr int rowTiles = QueryTile / Warps / 16;
    static constexpr int queryBytes = SharedTile<T, D>::bytes(QueryTile);
    static constexpr int keyBytes = SharedTile<T, D>::bytes(KeyTile);
    static constexpr int sharedBytes = queryBytes + 2 * Stages * keyBytes;
    using Plan = TilePlan<QueryTile, KeyTile>;
    using Steps = ForwardTileSteps<T, D, KeyTile, rowTiles, ScoreSteps>;

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        const uint32_t Qs = sharedAddress(memory), Ks = Qs + queryBytes, Vs = Ks + Stages * keyBytes;
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const int queryTiles = tileCount(launch.queryLength, QueryTile);
        const BlockOrder order(launch, queryTiles, launch.batch * launch.heads);
        const int i = queryTiles - 1 - order.rank;
        const int batch = order.pair / launch.heads, head = order.pair % launch.heads;
        const Plan plan(launch, batch);
        const TileRange rows = plan.queries(i), tiles = plan.keyTiles(i), whole = plan.wholeKeyTiles(i);
        const int keyHead = head / launch.groupSize;
        // What no row sees is not read. Computed for each copy: at D 128 no register is left to keep it in.
        auto keyLimit = [&] {
            int last = rows.upper - 1;
            asm volatile("" : "+r"(last));
            return plan.visibleKeys(last).upper;
        };
        const bool vectorised = launch.vectorised;
        const Rows<const T> Q(launch.query, batch, head);
        const Rows<const T> K(launch.key, batch, keyHead), V(launch.value, batch, keyHead);

        auto loadKeys = [&](int j, int stage) {
            copyTile<T, D, KeyTile, threads>(
                Ks + stage * keyBytes, K, j * KeyTile, keyLimit(), launch.headSize, vectorised);
        };
        auto loadValues = [&](int j, int stage) {
            copyTile<T, D, KeyTile, threads>(
                Vs + stage * keyBytes, V, j * KeyTile, keyLimit(), launch.valueHeadSize, vectorised);
        };

        copyTile<T, D, QueryTile, threads>(Qs, Q, rows.lower, rows.upper, launch.headSize, vectorised);
        if (QueryStays) commitCopies();
        if (!tiles.isEmpty()) loadKeys(tiles.lower, 0);
        if (Stages == 1) commitCopies();
        if (!tiles.isEmpty()) loadValues(tiles.lower, 0);
        commitCopies();

        if (QueryStays) {
            waitForCopies<Stages == 1 ? 2 : 1>();
            __syncthreads();
        }
        if (launch.softmaxScaleLog2 < 0) {
            waitForCopies<0>();
            __syncthreads();
            negateTile<T>(Qs, queryBytes);
            if (QueryStays) __syncthreads();
        }

        const int warpRow = warp * rowTiles * 16;
        const FragmentReader<T, D> Qi(Qs + SharedTile<T, D>::bytes(warpRow), laneRowA(lane), laneHalfA(lane));
        const FragmentReader<T, D> K0(Ks, laneRowB(lane), laneHalfB(lane));
        // A lane reads V, transposed, from the rows and halves from which it reads Q.
        const uint32_t Qw = Qs + SharedTile<T, D>::bytes(warpRow);
        const TransposedReader<T, D> V0(Qi, Qw, Vs - Qw, lane);
        Steps steps;
        typename Steps::Query kept;
        if (QueryStays)
#pragma unroll
            for (int k = 0; k < D / stepColumns<T>; ++k) loadOperands(kept[k], Qi, k);
        auto scores = [&](const FragmentReader<T, D> &Kj) {
            if constexpr (QueryStays)
                steps.scores(kept, Kj);
            else
                steps.scores(Qi, Kj);
        };
        steps.reset();

        for (int j = tiles.lower; j < tiles.upper; ++j) {
            const int stage = Stages == 2 ? (j - tiles.lower) & 1 : 0;
            if (Stages == 1 && j == tiles.lower)
                waitForCopies<1>();
            else
                waitForCopies<0>();
            __syncthreads();
            if (Stages == 1) {
                if (j > tiles.lower) loadValues(j, 0);
            } else if (j + 1 < tiles.upper) {
                loadKeys(j + 1, stage ^ 1);
                loadValues(j + 1, stage ^ 1);
            }
            commitCopies();
            scores(Stages == 2 ? K0.advanced(stage * keyBytes) : K0);
            if (Stages == 1) {
                waitForCopies<0>();
                __syncthreads();
                if (j + 1 < tiles.upper) loadKeys(j + 1, 0);
                commitCopies();
            }
            if (!whole.contains(j))
                steps.maskTile(
                    [&](int row) { return plan.visibleKeys(rows.lower + warpRow + row); }, j * KeyTile, lane);
            steps.onlineSoftmax(launch.positiveScaleLog2);
            steps.accumulate(Stages == 2 ? V0.advanced(stage * keyBytes) : V0);
        }

        if (tiles.isEmpty()) { // Q may still be on its way
            waitForCopies<0>();
            __syncthreads();
        }
        // A warp's O leaves through the memory of its rows of Q, which nobody else reads.
        const int firstRow = rows.lower + warpRow;
        steps.finalize(
            reinterpret_cast<float *>(launch.logSumExp) + int64_t(order.pair) * launch.queryLength, firstRow,
            rows.upper, lane);
        if (mayLeak<T>(launch) && __any_sync(~0u, steps.mayHaveLeaked())) {
            recomputeRows<T>(launch, order.pair, firstRow, min(firstRow + rowTiles * 16, rows.upper));
            return;
        }
        steps.store(Qw, Qi, lane);
        __syncwarp();
        storeTile<T, D, rowTiles * 16, 32>(
            Qs + SharedTile<T, D>::bytes(warpRow), Rows<T>(launch.output, batch, head), firstRow, rows.upper,
            launch.valueHeadSize, vectorised, lane);
    }
};

