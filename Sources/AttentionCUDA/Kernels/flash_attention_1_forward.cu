// FlashAttention, the first, forward: key tiles outside, query tiles inside, O, m and l in device memory. Any
// format.
//
// Source: Dao, Fu, Ermon, Rudra and Ré, "FlashAttention: Fast and Memory-Efficient Exact Attention with
// IO-Awareness", arXiv 2205.14135, Algorithm 1.
//
//   1. One block takes a head: O = 0, l = 0, m = -inf in device memory.
//   2. For each key tile j: load Kj, Vj
//   3.   For each query tile i that visits j: load Qi, and Oi, li, mi as they stand
//   4.     S = scale Qi Kjᵀ, masked; m~ = rowmax S, P = exp(S - m~), l~ = rowsum P
//   5.     m' = max(m, m~), l' = e^(m - m') l + e^(m~ - m') l~
//   6.     Oi = (l e^(m - m') Oi + e^(m~ - m') P Vj) / l', written back with l' and m'
//   7. lse = m + ln l
//
// A head is one block, as in the paper's program: few heads leave the device idle, and O travels once for
// every key tile; both are what FlashAttention-2 changed. Running values are F32 whatever the format.
#include "flash_attention_1_tiles.cuh"
#include "kernel_entry.cuh"

// partialOutput: O, [B, H, Nq, Dv]; partialStatistics: m, then l, [2, B, H, Nq]. Grid (B H).
template <typename T, int D>
struct FlashAttention1Forward : FlashAttention1Tiles<D, (D > 128 ? 32 : 64)> {
    using Base = FlashAttention1Tiles<D, (D > 128 ? 32 : 64)>;
    using Base::columnsOfThread, Base::pitch, Base::rowsOfThread, Base::scorePitch, Base::tile;
    using typename Base::Plan, typename Base::Product, typename Base::Scores;
    static constexpr int sharedBytes = (3 * tile * pitch + tile * scorePitch) * 4;

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        float *Qi = reinterpret_cast<float *>(memory), *Kj = Qi + tile * pitch, *Vj = Kj + tile * pitch;
        float *Ps = Vj + tile * pitch;
        const int pair = blockIdx.x, batch = pair / launch.heads, head = pair % launch.heads;
        const Plan plan(launch, batch);
        const Rows<const T> Q(launch.query, batch, head), K(launch.key, batch, head / launch.groupSize);
        const Rows<const T> V(launch.value, batch, head / launch.groupSize);
        const Rows<float> O =
            Base::working(launch.partialOutput, pair, launch.queryLength, launch.valueHeadSize);
        float *m = reinterpret_cast<float *>(launch.partialStatistics) + int64_t(pair) * launch.queryLength;
        float *l = m + int64_t(launch.batch) * launch.heads * launch.queryLength;
        const int64_t elements = int64_t(launch.queryLength) * launch.valueHeadSize;
        for (int64_t index = threadIdx.x; index < elements; index += floatThreads) O.row(0)[index] = 0;
        for (int row = threadIdx.x; row < launch.queryLength; row += floatThreads)
            m[row] = -INFINITY, l[row] = 0;

        for (int j = 0; j < (plan.keyLength + tile - 1) / tile; ++j) {
            const TileRange visits = plan.queryTiles(j);
            for (int i = visits.lower; i < visits.upper; ++i) {
                __syncthreads();
                if (i == visits.lower) {
                    loadFloatTile<T, tile, D>(Kj, K, j * tile, plan.keyLength, launch.headSize, false);
                    loadFloatTile<T, tile, D>(Vj, V, j * tile, plan.keyLength, launch.valueHeadSize, false);
                }
                loadFloatTile<T, tile, D>(Qi, Q, i * tile, launch.queryLength, launch.headSize, false);
                __syncthreads();
                visit(launch, plan, Qi, Kj, Vj, Ps, O, m, l, i, j);
            }
        }
        __syncthreads();
        const Rows<T> output(launch.output, batch, head);
        for (int64_t index = threadIdx.x; index < elements; index += floatThreads) {
            const int row = index / launch.valueHeadSize, d = index % launch.valueHeadSize;
            output.row(row)[d] = Format<T>::narrow(O.row(row)[d]);
        }
        float *lse = reinterpret_cast<float *>(launch.logSumExp) + int64_t(pair) * launch.queryLength;
        for (int row = threadIdx.x; row < launch.queryLength; row += floatThreads)
            lse[row] = l[row] == 0 ? -INFINITY : m[row] + logf(l[row]);
    }

private:
    // Steps 4 to 6.
    __device__ static void visit(
        const AttentionLaunch &launch, const Plan &plan, const float *Qi, const float *Kj, const float *Vj,
        float *Ps, const Rows<float> &O, float *m, float *l, int i, int j) {
        Scores S;
        clear(S);
        gemmNT<D, pitch, pitch>(S, Qi, Kj);
        float kept[rowsOfThread], added[rowsOfThread]; // factors on O as it stands and on P V
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const int row = i * tile + threadY() * rowsOfThread + r;
            const bool exists = row < launch.queryLength;
            const TileRange visible = exists ? plan.visibleKeys(row) : TileRange{0, 0};
            float maximum = -INFINITY, sum = 0;
#pragma unroll
            for (int c = 0; c < rowsOfThread; ++c) {
                S[r][c] = visible.contains(j * tile + threadX() + 16 * c) ?
                    S[r][c] * launch.softmaxScale : -INFINITY;
                maximum = fmaxf(maximum, S[r][c]);
            }
            maximum = rowMaximum(maximum);
            const float ownSubtrahend = maximum == -INFINITY ? 0 : maximum;
#pragma unroll
            for (int c = 0; c < rowsOfThread; ++c) {
                S[r][c] =
                    visible.contains(j * tile + threadX() + 16 * c) ? expf(S[r][c] - ownSubtrahend) : hidden;
                sum += S[r][c];
            }
            sum = rowSum(sum);
            const float oldM = exists ? m[row] : -INFINITY, oldL = exists ? l[row] : 0;
            const float newM = fmaxf(oldM, maximum), subtrahend = newM == -INFINITY ? 0 : newM;
            const float old = oldL * expf(oldM - subtrahend), weight = expf(maximum - subtrahend);
            const float newL = old + weight * sum, inverse = newL == 0 ? 0 : 1 / newL;
            kept[r] = old * inverse;
            added[r] = weight * inverse;
            __syncwarp();
            if (exists && threadX() == 0) m[row] = newM, l[row] = newL;
        }
        Base::store(Ps, S);
        __syncthreads();
        Product PV;
        clear(PV);
        gemmNN<tile, scorePitch, pitch, true>(PV, Ps, Vj);
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const int row = i * tile + threadY() * rowsOfThread + r;
            if (row >= launch.queryLength) continue;
#pragma unroll
            for (int e = 0; e < columnsOfThread; ++e) {
                const int column = Columns<columnsOfThread>::column(e);
                if (column >= launch.valueHeadSize) continue;
                float *target = O.row(row) + column;
                *target = kept[r] * *target + added[r] * PV[r][e];
            }
        }
    }
};

#define FORWARD(format, T)                                                                                   \
    FATTN_ENTRY(fattn_fa1_forward_##format##_d64, run, 1, FlashAttention1Forward<T, 64>)                     \
    FATTN_ENTRY(fattn_fa1_forward_##format##_d128, run, 1, FlashAttention1Forward<T, 128>)                   \
    FATTN_ENTRY(fattn_fa1_forward_##format##_d256, run, 1, FlashAttention1Forward<T, 256>)

FORWARD(bf16, __nv_bfloat16)
FORWARD(f16, __half)
FORWARD(f32, float)
