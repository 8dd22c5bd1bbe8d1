// FlashAttention-2, forward, F32: exact products (FFMA), no tensor cores.
//
// Source and steps: flash_attention_2_forward.cu. The products are gemmNT and gemmNN of float_tile_steps.cuh; P goes
// through shared memory, since here 16 threads share a row. V comes under the scores, the next K under P V.
// Shared memory: (Br + 2 Bc) (D + 4) + Br (Bc + 4) floats.
#include "block_order.cuh"
#include "float_tile_steps.cuh"
#include "kernel_entry.cuh"

template <int D>
struct FlashAttention2ForwardF32 {
    static constexpr int rowsOfThread = D > 128 ? 4 : 8, QueryTile = 16 * rowsOfThread, KeyTile = 64;
    static constexpr int keysOfThread = KeyTile / 16, columnsOfThread = D / 16;
    static constexpr int pitch = floatPitch(D), scorePitch = floatPitch(KeyTile);
    static constexpr int threads = floatThreads, queryTile = QueryTile, keyTile = KeyTile;
    static constexpr int sharedBytes = ((QueryTile + 2 * KeyTile) * pitch + QueryTile * scorePitch) * 4;
    using Plan = TilePlan<QueryTile, KeyTile>;

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        float *Qi = reinterpret_cast<float *>(memory), *Kj = Qi + QueryTile * pitch, *Vj = Kj + KeyTile * pitch;
        float *P = Vj + KeyTile * pitch;
        const int queryTiles = (launch.queryLength + QueryTile - 1) / QueryTile;
        const BlockOrder order(launch, queryTiles, launch.batch * launch.heads);
        const int i = queryTiles - 1 - order.rank;
        const int batch = order.pair / launch.heads, head = order.pair % launch.heads;
        const Plan plan(launch, batch);
        const TileRange rows = plan.queries(i), tiles = plan.keyTiles(i), whole = plan.wholeKeyTiles(i);
        const Rows<const float> Q(launch.query, batch, head);
        const Rows<const float> K(launch.key, batch, head / launch.groupSize);
        const Rows<const float> V(launch.value, batch, head / launch.groupSize);
        auto loadKeys = [&](int j) {
            loadFloatTile<float, KeyTile, D>(
                Kj, K, j * KeyTile, plan.keyLength, launch.headSize, launch.vectorised);
        };

        loadFloatTile<float, QueryTile, D>(Qi, Q, rows.lower, rows.upper, launch.headSize, launch.vectorised);
        if (!tiles.isEmpty()) loadKeys(tiles.lower);
        commitCopies();
        float O[rowsOfThread][columnsOfThread], m[rowsOfThread], l[rowsOfThread];
        clear(O);
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) m[r] = -INFINITY, l[r] = 0;

#pragma unroll 1
        for (int j = tiles.lower; j < tiles.upper; ++j) {
            waitForCopies<0>();
            __syncthreads();
            loadFloatTile<float, KeyTile, D>(
                Vj, V, j * KeyTile, plan.keyLength, launch.valueHeadSize, launch.vectorised);
            commitCopies();
            float S[rowsOfThread][keysOfThread];
            clear(S);
            gemmNT<D, pitch, pitch>(S, Qi, Kj);
            if (launch.softmaxScaleLog2 < 0) negate(S);
            if (!whole.contains(j)) maskTile(S, -INFINITY, plan, rows.lower, j * KeyTile);
            onlineSoftmax(S, O, m, l, launch.positiveScaleLog2);
            if (!whole.contains(j)) maskTile(S, hidden, plan, rows.lower, j * KeyTile);
#pragma unroll
            for (int r = 0; r < rowsOfThread; ++r)
#pragma unroll
                for (int c = 0; c < keysOfThread; ++c)
                    P[(threadY() * rowsOfThread + r) * scorePitch + threadX() + 16 * c] = S[r][c];
            waitForCopies<0>();
            __syncthreads();
            if (j + 1 < tiles.upper) loadKeys(j + 1);
            commitCopies();
            if (whole.contains(j))
                gemmNN<KeyTile, scorePitch, pitch, false>(O, P, Vj);
            else
                gemmNN<KeyTile, scorePitch, pitch, true>(O, P, Vj);
        }
        finalize(launch, O, m, l, Rows<float>(launch.output, batch, head), order.pair, rows);
    }

private:
    // S = -S, for a negative scale.
    __device__ static void negate(float (&S)[rowsOfThread][keysOfThread]) {
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r)
#pragma unroll
            for (int c = 0; c < keysOfThread; ++c) S[r][c] = -S[r][c];
    }

    // Puts `value` where the row does not see the key.
    __device__ static void maskTile(
        float (&S)[rowsOfThread][keysOfThread], float value, const Plan &plan, int firstRow, int firstKey) {
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const TileRange visible = plan.visibleKeys(firstRow + threadY() * rowsOfThread + r);
#pragma unroll
            for (int c = 0; c < keysOfThread; ++c)
                if (!visible.contains(firstKey + threadX() + 16 * c)) S[r][c] = value;
        }
    }

    // S becomes P; O and l move to the new maximum; l holds this thread's part of the row sum.
    __device__ static void onlineSoftmax(
        float (&S)[rowsOfThread][keysOfThread], float (&O)[rowsOfThread][columnsOfThread], float (&m)[rowsOfThread],
        float (&l)[rowsOfThread], float scaleLog2) {
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            float maximum = S[r][0];
#pragma unroll
            for (int c = 1; c < keysOfThread; ++c) maximum = fmaxf(maximum, S[r][c]);
            const float old = m[r];
            m[r] = fmaxf(old, rowMaximum(maximum) * scaleLog2);
            const float subtrahend = m[r] == -INFINITY ? 0 : m[r];
            const float correction = exp2Approximate(old - subtrahend);
            l[r] *= correction;
#pragma unroll
            for (int c = 0; c < columnsOfThread; ++c) O[r][c] *= correction;
#pragma unroll
            for (int c = 0; c < keysOfThread; ++c) {
                S[r][c] = exp2Approximate(fmaf(S[r][c], scaleLog2, -subtrahend));
                l[r] += S[r][c];
            }
        }
    }

    __device__ static void finalize(
        const AttentionLaunch &launch, const float (&O)[rowsOfThread][columnsOfThread],
        const float (&m)[rowsOfThread], float (&l)[rowsOfThread], const Rows<float> &output, int pair,
        TileRange rows) {
        float inverse[rowsOfThread];
        float *lse = reinterpret_cast<float *>(launch.logSumExp) + int64_t(pair) * launch.queryLength;
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const int row = rows.lower + threadY() * rowsOfThread + r;
            const float sum = rowSum(l[r]);
            inverse[r] = sum == 0 ? 0 : 1 / sum;
            if (threadX() == 0 && row < rows.upper)
                lse[row] = sum == 0 ? -INFINITY : (m[r] + log2f(sum)) * 0.6931471805599453f;
        }
        storeProduct(O, output, rows.lower, rows.upper, launch.valueHeadSize, [&](int r) { return inverse[r]; });
    }
};

FATTN_ENTRY(fattn_fa2_forward_f32_d32, run, 1, FlashAttention2ForwardF32<32>)
FATTN_ENTRY(fattn_fa2_forward_f32_d64, run, 1, FlashAttention2ForwardF32<64>)
FATTN_ENTRY(fattn_fa2_forward_f32_d96, run, 1, FlashAttention2ForwardF32<96>)
FATTN_ENTRY(fattn_fa2_forward_f32_d128, run, 1, FlashAttention2ForwardF32<128>)
FATTN_ENTRY(fattn_fa2_forward_f32_d192, run, 1, FlashAttention2ForwardF32<192>)
FATTN_ENTRY(fattn_fa2_forward_f32_d256, run, 1, FlashAttention2ForwardF32<256>)
