// FlashAttention-2, backward, on tensor cores: dK and dV, and dQ by addition in device memory.
//
// Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
// arXiv 2307.08691, Algorithm 2.
//
//   1. delta = rowsum(dO ∘ O), and dQ's sum cleared       a launch before, in
//                                                         flash_attention_2_backward_rows.cuh
//   2. A block takes one key tile j of one key/value head: load Kj, Vj; dK = dV = 0.
//   3. For each query head of the group and each query tile i that visits j:
//   4.   load Qi, dOi, lse and delta (a tile ahead, asynchronously)
//   5.   Sᵀ = Kj Qiᵀ                                       multiplyRows
//   6.   Pᵀ = exp(Sᵀ - lse), masked                        probabilities
//   7.   dV += Pᵀ dOi                                      multiplyRegisters
//   8.   dPᵀ = Vj dOiᵀ                                     multiplyRows
//   9.   dSᵀ = Pᵀ ∘ (dPᵀ - delta)                          scoresGradient
//  10.   dK += dSᵀ Qi                                      multiplyRegisters
//  11.   dQi += dS Kj, by atomic addition of F32           addQueryGradient
//  12. dK = scale dK, dV: written once, summed over the query heads of the group
//  13. dQ = scale dQ's sum, rounded                       flash_attention_2_backward_rows.cuh, a launch after
//
// Deviations: a warp owns keys and computes Sᵀ, so that P and dS are left operands in registers and only dS
// passes through shared memory, for step 11, which follows one query tile later: one barrier a tile. dQ's sum
// lies in the order of the fragments, so that an addition is 16 bytes a lane and 512 a warp. In the
// deterministic mode (gradientSum = 0) step 11 is left out; flash_attention_2_backward_query.cuh does it.
// Work: 10 Nq Nk D FLOPs a head when D = Dv. Shared memory: (2 Bc + 4 Br) D + 2 Br Bc elements.
#pragma once

#include "flash_attention_2_backward_queries.cuh"

template <typename T, int D, int QueryTile, int KeyTile, int Warps, int QueryWarps>
struct FlashAttention2Backward {
    static constexpr int threads = Warps * 32, queryTile = QueryTile, keyTile = KeyTile;
    static constexpr int rowTiles = KeyTile / Warps / 16;     // of keys, a warp
    static constexpr int queryFragments = QueryTile / 8;
    static constexpr int columnWarps = Warps / QueryWarps;    // dQ: QueryWarps × columnWarps
    static constexpr int dQRowTiles = QueryTile / QueryWarps / 16;
    static constexpr int dQFragments = D / columnWarps / 8;
    static constexpr int keyBytes = SharedTile<T, D>::bytes(KeyTile);
    static constexpr int queryBytes = SharedTile<T, D>::bytes(QueryTile);
    static constexpr int gradientBytes = SharedTile<T, QueryTile>::bytes(KeyTile);
    static constexpr int termBytes = QueryTile * 8;
    static constexpr int sharedBytes = 2 * keyBytes + 4 * queryBytes + 2 * gradientBytes + 2 * termBytes;
    using Plan = TilePlan<QueryTile, KeyTile>;

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        const uint32_t Ks = sharedAddress(memory), Vs = Ks + keyBytes, Qs = Vs + keyBytes;
        const uint32_t dOs = Qs + 2 * queryBytes, dSs = dOs + 2 * queryBytes, terms = dSs + 2 * gradientBytes;
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const OwnedKeys<T, D, QueryTile, KeyTile> own(launch);
        const QueryVisits<T, D, QueryTile, KeyTile, threads> visits(
            launch, own.plan, own.batch, own.keyHead, own.j);
        auto loadQueries = [&](auto v, int stage) {
            visits.load(v, Qs + stage * queryBytes, dOs + stage * queryBytes, terms + stage * termBytes);
        };

        own.template load<threads>(Ks, Vs);
        if (visits.count > 0) loadQueries(visits.first, 0);
        commitCopies();

        const int warpKey = warp * rowTiles * 16;
        const int queryWarp = warp / columnWarps, columnWarp = warp % columnWarps;
        const uint32_t Kw = Ks + SharedTile<T, D>::bytes(warpKey);
        const FragmentReader<T, D> Kj(Kw, laneRowA(lane), laneHalfA(lane));
        const FragmentReader<T, D> Q0(Qs, laneRowB(lane), laneHalfB(lane));
        const FragmentReader<T, QueryTile> dSw(
            dSs + SharedTile<T, QueryTile>::bytes(warpKey), laneRowA(lane), laneHalfA(lane));
        const TransposedLeftReader<T, QueryTile> dS0(dSs, 2 * queryWarp * dQRowTiles, lane);
        const TransposedReader<T, D> Kt(Ks, columnWarp * dQFragments, lane);

        auto addPrevious = [&](auto v, int stage) {
            if (!launch.gradientSum) return;
            float *sum =
                visits.gradientSum(v) + (queryWarp * dQRowTiles * (D / 8) + columnWarp * dQFragments) * 128;
            addQueryGradient<T, KeyTile, dQRowTiles, dQFragments>(
                sum, dS0.advanced(stage * gradientBytes), Kt, lane);
        };

        float dK[rowTiles][D / 8][4], dV[rowTiles][D / 8][4];
        clear(dK);
        clear(dV);
        auto current = visits.first, previous = current;
#pragma unroll 1
        for (int s = 0; s < visits.count; ++s) {
            const int stage = s & 1;
            const uint32_t Qi = Qs + stage * queryBytes, dOi = dOs + stage * queryBytes;
            const uint32_t stageTerms = terms + stage * termBytes;
            const auto next = visits.next(current);
            waitForCopies<0>();
            __syncthreads();
            if (s + 1 < visits.count) loadQueries(next, stage ^ 1);
            commitCopies();
            if (s > 0) addPrevious(previous, stage ^ 1);

            const int firstQuery = current.tile * QueryTile, firstKey = own.keys.lower + warpKey;
            const bool isWhole = own.plan.isWhole(current.tile, own.j);
            float S[rowTiles][queryFragments][4], dP[rowTiles][queryFragments][4];
            LeftOperand<T, rowTiles, QueryTile> P, dS;
            clear(S);
            multiplyRows<T, D / stepColumns<T>>(S, Kj, Q0.advanced(stage * queryBytes));
            probabilities(S, stageTerms, launch.softmaxScaleLog2, 0, lane);
            if (!isWhole) maskTile(S, own.plan, firstQuery, firstKey, lane);
            startAtDelta(dP, stageTerms, 0, lane);
            multiplyRows<T, D / stepColumns<T>>(dP, Kj.advanced(keyBytes), Q0.advanced(dOi - Qs));
            packOperand<T>(P, S);
            scoresGradient(dP, S);
            if (!isWhole) maskTile(dP, own.plan, firstQuery, firstKey, lane);
            packOperand<T>(dS, dP);
            storeOperand(dSw.advanced(stage * gradientBytes), dS);
            // Transposed, Q and dO are read from the rows and halves from which this lane reads K.
            multiplyRegisters<T>(dV, P, TransposedReader<T, D>(Kj, Kw, dOi - Kw, lane));
            multiplyRegisters<T>(dK, dS, TransposedReader<T, D>(Kj, Kw, Qi - Kw, lane));
            previous = current;
            current = next;
        }
        waitForCopies<0>();
        __syncthreads();
        if (visits.count > 0) addPrevious(previous, (visits.count - 1) & 1);
        __syncthreads();

        if (mayLeak<T>(launch) && __any_sync(~0u, !isFinite(dK) || !isFinite(dV))) {
            const int first = own.j * KeyTile + warpKey, limit = min(first + rowTiles * 16, launch.keyLength);
            recomputeKeyGradients<T>(launch, own.order.pair, first, limit, 1);
            return;
        }
        // dK and dV leave through the memory of K and V.
        storeFragments<T, D>(Ks, dK, launch.softmaxScale, warpKey, 0, lane);
        storeFragments<T, D>(Vs, dV, 1, warpKey, 0, lane);
        __syncwarp();
        own.template store<rowTiles * 16, 32>(Ks, Vs, warpKey, lane);
    }
};

