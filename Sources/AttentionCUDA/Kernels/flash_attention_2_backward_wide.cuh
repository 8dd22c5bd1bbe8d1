// FlashAttention-2, backward, for wide heads and for F32: P and dS pass through shared memory.
//
// The same steps as flash_attention_2_backward.cuh. With D above 128 a warp cannot hold dK and dV of its keys
// at full width, so the columns of dK and dV are shared out too, and every warp needs P and dS of keys that
// another one computed: one more barrier a tile. In F32 an operand is split where it is read, so that wide
// products of a warp's are worth the same. Warps are laid out anew for each product: ScoreWarps of the
// keys for Sᵀ and dPᵀ, GradientWarps of the keys for dK and dV, QueryWarps of the queries for dQ; the rest
// share the columns. Shared memory: (2 Bc + 2 Stages Br) D + 2 Br Bc elements.
#pragma once

#include "flash_attention_2_backward_queries.cuh"

// Stages 2: Q and dO of the next tile come while this one is computed, two barriers a tile. Stages 1: dO
// comes under dK, Q under dQ, four barriers a tile, for query tiles of twice the rows in the same memory.
template <
    typename T, int D, int QueryTile, int KeyTile, int Warps, int ScoreWarps, int GradientWarps,
    int QueryWarps, int Stages = 2>
struct FlashAttention2BackwardWide {
    static constexpr int threads = Warps * 32, queryTile = QueryTile, keyTile = KeyTile;
    static constexpr int scoreRowTiles = KeyTile / ScoreWarps / 16;
    static constexpr int scoreFragments = QueryTile / (Warps / ScoreWarps) / 8;
    static constexpr int gradientRowTiles = KeyTile / GradientWarps / 16;
    static constexpr int gradientFragments = D / (Warps / GradientWarps) / 8;
    static constexpr int dQRowTiles = QueryTile / QueryWarps / 16;
    // Above 128 dQ comes in halves of a warp's columns: its accumulators would not fit beside dK and dV.
    static constexpr int dQParts = D > 128 ? 2 : 1;
    static constexpr int dQFragments = D / (Warps / QueryWarps) / 8 / dQParts;
    static constexpr int keyBytes = SharedTile<T, D>::bytes(KeyTile);
    static constexpr int queryBytes = SharedTile<T, D>::bytes(QueryTile);
    static constexpr int scoreBytes = SharedTile<T, QueryTile>::bytes(KeyTile);
    static constexpr int termBytes = QueryTile * 8;
    static constexpr int sharedBytes =
        2 * keyBytes + 2 * Stages * queryBytes + 2 * scoreBytes + 2 * termBytes;
    static_assert(scoreFragments % 2 == 0 && gradientFragments % 2 == 0 && dQFragments % 2 == 0);
    using Plan = TilePlan<QueryTile, KeyTile>;

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        const uint32_t Ks = sharedAddress(memory), Vs = Ks + keyBytes, Qs = Vs + keyBytes;
        const uint32_t dOs = Qs + Stages * queryBytes, Ps = dOs + Stages * queryBytes, dSs = Ps + scoreBytes;
        const uint32_t terms = dSs + scoreBytes;
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const OwnedKeys<T, D, QueryTile, KeyTile> own(launch);
        const QueryVisits<T, D, QueryTile, KeyTile, threads> visits(
            launch, own.plan, own.batch, own.keyHead, own.j);
        auto loadQueries = [&](auto v, int stage) {
            const int offset = stage % Stages * queryBytes;
            visits.load(v, Qs + offset, dOs + offset, terms + stage * termBytes);
        };

        own.template load<threads>(Ks, Vs);
        if (visits.count > 0) loadQueries(visits.first, 0);
        commitCopies();

        const int scoreKey = warp % ScoreWarps * scoreRowTiles * 16;
        const int scoreQuery = warp / ScoreWarps * scoreFragments * 8;
        const int gradientKey = warp % GradientWarps * gradientRowTiles * 16;
        const int gradientColumn = warp / GradientWarps * gradientFragments;
        const int queryRow = warp % QueryWarps * dQRowTiles,
                  queryColumn = warp / QueryWarps * dQFragments * dQParts;
        const int rowA = laneRowA(lane), halfA = laneHalfA(lane), rowB = laneRowB(lane),
                  halfB = laneHalfB(lane);

        float dK[gradientRowTiles][gradientFragments][4], dV[gradientRowTiles][gradientFragments][4];
        clear(dK);
        clear(dV);
        auto current = visits.first;
#pragma unroll 1
        for (int s = 0; s < visits.count; ++s) {
            const int stage = s & 1;
            const uint32_t Qi = Qs + stage % Stages * queryBytes, dOi = dOs + stage % Stages * queryBytes;
            const uint32_t stageTerms = terms + stage * termBytes;
            const auto next = visits.next(current);
            waitForCopies<0>();
            __syncthreads();
            const bool isLast = s + 1 == visits.count;
            if (Stages == 2 && !isLast) loadQueries(next, stage ^ 1);
            commitCopies();
            {
                float S[scoreRowTiles][scoreFragments][4], dP[scoreRowTiles][scoreFragments][4];
                LeftOperand<T, scoreRowTiles, scoreFragments * 8> packed;
                const FragmentReader<T, D> K(Ks + SharedTile<T, D>::bytes(scoreKey), rowA, halfA);
                const FragmentReader<T, D> Q(Qi + SharedTile<T, D>::bytes(scoreQuery), rowB, halfB);
                const FragmentReader<T, QueryTile> P(
                    Ps + SharedTile<T, QueryTile>::bytes(scoreKey), rowA,
                    scoreQuery / chunkElements<T> + halfA);
                const int firstQuery = current.tile * QueryTile + scoreQuery,
                          firstKey = own.keys.lower + scoreKey;
                const bool isWhole = own.plan.isWhole(current.tile, own.j);
                clear(S);
                multiplyRows<T, D / stepColumns<T>>(S, K, Q);
                probabilities(S, stageTerms, launch.softmaxScaleLog2, scoreQuery, lane);
                if (!isWhole) maskTile(S, own.plan, firstQuery, firstKey, lane);
                packOperand<T>(packed, S);
                storeOperand(P, packed);
                startAtDelta(dP, stageTerms, scoreQuery, lane);
                multiplyRows<T, D / stepColumns<T>>(
                    dP, K.advanced(keyBytes), Q.advanced(Stages * queryBytes));
                scoresGradient(dP, S);
                if (!isWhole) maskTile(dP, own.plan, firstQuery, firstKey, lane);
                packOperand<T>(packed, dP);
                storeOperand(P.advanced(scoreBytes), packed);
            }
            __syncthreads();
            const FragmentReader<T, QueryTile> P(
                Ps + SharedTile<T, QueryTile>::bytes(gradientKey), rowA, halfA);
            const TransposedReader<T, D> dO(dOi, gradientColumn, lane);
            multiplyColumns<T, QueryTile / stepColumns<T>>(dV, P, dO);
            if (Stages == 1) {
                __syncthreads();
                if (!isLast) visits.loadGradients(next, dOs, terms + (stage ^ 1) * termBytes);
                commitCopies();
            }
            multiplyColumns<T, QueryTile / stepColumns<T>>(dK, P.advanced(scoreBytes), dO.advanced(Qi - dOi));
            if (Stages == 1) {
                __syncthreads();
                if (!isLast) visits.loadQueries(next, Qs);
                commitCopies();
            }
            if (launch.gradientSum)
#pragma unroll 1
                for (int part = 0; part < dQParts; ++part) {
                    const int column = queryColumn + part * dQFragments;
                    addQueryGradient<T, KeyTile, dQRowTiles, dQFragments>(
                        visits.gradientSum(current) + (queryRow * (D / 8) + column) * 128,
                        TransposedLeftReader<T, QueryTile>(dSs, 2 * queryRow, lane),
                        TransposedReader<T, D>(Ks, column, lane), lane);
                }
            current = next;
        }
        waitForCopies<0>();
        const bool fails = mayLeak<T>(launch) && !(isFinite(dK) && isFinite(dV));
        if (__syncthreads_or(fails)) {
            const int first = own.j * KeyTile, limit = min(first + KeyTile, launch.keyLength);
            recomputeKeyGradients<T>(launch, own.order.pair, first + warp, limit, Warps);
            return;
        }
        // dK and dV leave through the memory of K and V.
        storeFragments<T, D>(Ks, dK, launch.softmaxScale, gradientKey, gradientColumn * 8, lane);
        storeFragments<T, D>(Vs, dV, 1, gradientKey, gradientColumn * 8, lane);
        __syncthreads();
        own.template store<KeyTile, threads>(Ks, Vs, 0, threadIdx.x);
    }
};
