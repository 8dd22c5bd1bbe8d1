// FlashAttention-2, backward, F16 and BF16 on tensor cores: dK and dV, and dQ by addition in device memory.
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
// Work: 10 Nq Nk D FLOPs a head when D = Dv. Shared memory: (2 Bc + 4 Br) D + 2 Br Bc elements of 2 bytes.
#include "flash_attention_2_backward_queries.cuh"
#include "flash_attention_2_backward_query.cuh"
#include "flash_attention_2_backward_rows.cuh"
#include "flash_attention_2_backward_wide.cuh"
#include "kernel_entry.cuh"

template <typename T, int D, int QueryTile, int KeyTile, int Warps, int QueryWarps>
struct FlashAttention2Backward {
    static constexpr int threads = Warps * 32, queryTile = QueryTile, keyTile = KeyTile;
    static constexpr int rowTiles = KeyTile / Warps / 16;     // of keys, a warp
    static constexpr int queryFragments = QueryTile / 8;
    static constexpr int columnWarps = Warps / QueryWarps;    // dQ: QueryWarps × columnWarps
    static constexpr int dQRowTiles = QueryTile / QueryWarps / 16;
    static constexpr int dQFragments = D / columnWarps / 8;
    static constexpr int keyBytes = SharedTile<D>::bytes(KeyTile);
    static constexpr int queryBytes = SharedTile<D>::bytes(QueryTile);
    static constexpr int gradientBytes = SharedTile<QueryTile>::bytes(KeyTile);
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
        const uint32_t Kw = Ks + SharedTile<D>::bytes(warpKey);
        const FragmentReader<D> Kj(Kw, laneRowA(lane), laneHalfA(lane));
        const FragmentReader<D> Q0(Qs, laneRowB(lane), laneHalfB(lane));
        const FragmentReader<QueryTile> dSw(
            dSs + SharedTile<QueryTile>::bytes(warpKey), laneRowA(lane), laneHalfA(lane));
        const FragmentReader<QueryTile> dS0(
            dSs, laneRowB(lane), queryWarp * dQRowTiles * 2 + laneHalfB(lane));
        const FragmentReader<D> Kt(Ks, laneRowA(lane), columnWarp * (dQFragments) + laneHalfA(lane));

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
            uint32_t P[rowTiles][queryFragments / 2][4], dS[rowTiles][queryFragments / 2][4];
            clear(S);
            multiplyRows<T, D / 16>(S, Kj, Q0.advanced(stage * queryBytes));
            probabilities(S, stageTerms, launch.softmaxScaleLog2, 0, lane);
            if (!isWhole) maskTile(S, own.plan, firstQuery, firstKey, lane);
            startAtDelta(dP, stageTerms, 0, lane);
            multiplyRows<T, D / 16>(dP, Kj.advanced(keyBytes), Q0.advanced(dOi - Qs));
            packOperand<T>(P, S);
            scoresGradient(dP, S);
            if (!isWhole) maskTile(dP, own.plan, firstQuery, firstKey, lane);
            packOperand<T>(dS, dP);
            storeOperand(dSw.advanced(stage * gradientBytes), dS);
            // Transposed, Q and dO are read from the rows and halves from which this lane reads K.
            multiplyRegisters<T>(dV, P, Kj.advanced(dOi - Kw));
            multiplyRegisters<T>(dK, dS, Kj.advanced(Qi - Kw));
            previous = current;
            current = next;
        }
        waitForCopies<0>();
        __syncthreads();
        if (visits.count > 0) addPrevious(previous, (visits.count - 1) & 1);
        __syncthreads();

        if (launch.mask != TileMaskFull && __any_sync(~0u, !isFinite(dK) || !isFinite(dV))) {
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

// The widest heads, with smaller tiles where a block's shared memory is smaller.
template <typename T>
using Backward192 = LargestThatFits<
    FlashAttention2BackwardWide<T, 192, 128, 64, 8, 2, 2, 4, 1>,
    FlashAttention2BackwardWide<T, 192, 64, 64, 8, 2, 2, 4, 2>>;
template <typename T>
using Backward256 = LargestThatFits<
    FlashAttention2BackwardWide<T, 256, 128, 64, 8, 2, 2, 4, 1>,
    FlashAttention2BackwardWide<T, 256, 64, 64, 8, 2, 2, 2, 1>>;
template <typename T>
using BackwardQuery256 =
    LargestThatFits<FlashAttention2BackwardQuery<T, 256, 32, 8>, FlashAttention2BackwardQuery<T, 256, 32, 4>>;

// Br, Bc, warps and how they share the products, for each head size. TFLOP/s on an H100 at N 16k, full, bf16,
// with the passes before and after:
//   D 64   32, 128, 4 warps: 314     64, 128, 4, P through shared memory: 299    128, 128, 8, likewise: 293
//   D 128  64, 128, 8, P in registers: 301    64, 128, 8, P through shared memory: 320
//          64, 64, 4, likewise: 308
//   D 256  128, 64, 8 as 2 | 2 | 4, one stage: 299    as 2 | 2 | 2: 286    as 4 | 2 | 2: 273
//          64, 64, 8 as 2 | 2 | 2, two stages: 260
// Wider query tiles read P, dS, K and V less often from shared memory.
#define BACKWARD(format, T)                                                                                  \
    FATTN_ENTRY(fattn_fa2_backward_##format##_d32, run, 2, FlashAttention2Backward<T, 32, 32, 128, 4, 2>)    \
    FATTN_ENTRY(fattn_fa2_backward_##format##_d64, run, 2, FlashAttention2Backward<T, 64, 32, 128, 4, 1>)    \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_##format##_d96, run, 2, FlashAttention2BackwardWide<T, 96, 64, 64, 4, 2, 2, 2>)   \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_##format##_d128, run, 1, FlashAttention2BackwardWide<T, 128, 64, 128, 8, 4, 4, 2>)\
    FATTN_ENTRY(fattn_fa2_backward_##format##_d192, run, 1, Backward192<T>)                                  \
    FATTN_ENTRY(fattn_fa2_backward_##format##_d256, run, 1, Backward256<T>)                                  \
    FATTN_ENTRY(fattn_fa2_backward_query_##format##_d32, run, 2, FlashAttention2BackwardQuery<T, 32, 64, 4>) \
    FATTN_ENTRY(fattn_fa2_backward_query_##format##_d64, run, 2, FlashAttention2BackwardQuery<T, 64, 64, 4>) \
    FATTN_ENTRY(fattn_fa2_backward_query_##format##_d96, run, 2, FlashAttention2BackwardQuery<T, 96, 64, 4>) \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_query_##format##_d128, run, 2, FlashAttention2BackwardQuery<T, 128, 64, 4>)       \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_query_##format##_d192, run, 1, FlashAttention2BackwardQuery<T, 192, 32, 8>)       \
    FATTN_ENTRY(fattn_fa2_backward_query_##format##_d256, run, 1, BackwardQuery256<T>)                       \
    BACKWARD_ROWS(format, T, 32)                                                                             \
    BACKWARD_ROWS(format, T, 64)                                                                             \
    BACKWARD_ROWS(format, T, 96)                                                                             \
    BACKWARD_ROWS(format, T, 128)                                                                            \
    BACKWARD_ROWS(format, T, 192)                                                                            \
    BACKWARD_ROWS(format, T, 256)

#define BACKWARD_ROWS(format, T, D)                                                                          \
    FATTN_ENTRY(fattn_fa2_backward_prepare_##format##_d##D, run, 1, BackwardPrepare<T, D>)                   \
    FATTN_ENTRY(fattn_fa2_backward_finish_##format##_d##D, run, 1, BackwardFinish<T, D>)

BACKWARD(bf16, __nv_bfloat16)
BACKWARD(f16, __half)
