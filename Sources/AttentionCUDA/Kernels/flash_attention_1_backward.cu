// FlashAttention, the first, backward: key tiles outside, query tiles inside, dQ in device memory. Any
// format.
//
// Source: Dao, Fu, Ermon, Rudra and Ré, arXiv 2205.14135, Algorithm 4, without dropout.
//
//   1. delta = rowsum(dO ∘ O)                               BackwardPrepare
//   2. One block takes a key/value head: dQ = 0 in device memory.
//   3. For each key tile j: load Kj, Vj; dK = dV = 0
//   4.   For each query head of the group and each query tile i that visits j: load Qi, dOi
//   5.     P = exp(scale Qi Kjᵀ - lse), masked; dV += Pᵀ dOi
//   6.     dS = P ∘ (dOi Vjᵀ - delta)
//   7.     dQi += dS Kj in device memory; dK += dSᵀ Qi
//   8.   write scale dK and dV
//   9. dQ = scale dQ, rounded
//
// One block owns all of a head's dQ, so nothing is atomic and the result is the same bits every time.
#include "flash_attention_1_tiles.cuh"
#include "kernel_entry.cuh"

// gradientSum: dQ, [B, H, Nq, D] by rows. rowTerms as for FlashAttention-2. Grid (B Hkv).
template <typename T, int D>
struct FlashAttention1Backward : FlashAttention1Tiles<D, (D > 64 ? 32 : 64)> {
    using Base = FlashAttention1Tiles<D, (D > 64 ? 32 : 64)>;
    using Base::columnsOfThread, Base::pitch, Base::rowsOfThread, Base::scorePitch, Base::tile;
    using typename Base::Plan, typename Base::Product, typename Base::Scores;
    static constexpr int sharedBytes = (4 * tile * pitch + 2 * tile * scorePitch) * 4;

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        float *Qi = reinterpret_cast<float *>(memory), *dOi = Qi + tile * pitch, *Kj = dOi + tile * pitch;
        float *Vj = Kj + tile * pitch, *P = Vj + tile * pitch, *dS = P + tile * scorePitch;
        const int batch = blockIdx.x / launch.keyValueHeads, keyHead = blockIdx.x % launch.keyValueHeads;
        const Plan plan(launch, batch);
        const Rows<const T> K(launch.key, batch, keyHead), V(launch.value, batch, keyHead);
        const int firstPair = batch * launch.heads + keyHead * launch.groupSize;
        float *sums = Base::working(launch.gradientSum, firstPair, launch.queryLength, launch.headSize).base;
        const int64_t sumCount = int64_t(launch.groupSize) * launch.queryLength * launch.headSize;
        for (int64_t index = threadIdx.x; index < sumCount; index += floatThreads) sums[index] = 0;

        for (int j = 0; j < (launch.keyLength + tile - 1) / tile; ++j) {
            const TileRange visits = plan.queryTiles(j);
            __syncthreads();
            loadFloatTile<T, tile, D>(Kj, K, j * tile, plan.keyLength, launch.headSize, false);
            loadFloatTile<T, tile, D>(Vj, V, j * tile, plan.keyLength, launch.valueHeadSize, false);
            Product dK, dV;
            clear(dK);
            clear(dV);
            for (int g = 0; g < launch.groupSize; ++g) {
                const int head = keyHead * launch.groupSize + g;
                const Rows<const T> Q(launch.query, batch, head), dO(launch.outputGradient, batch, head);
                for (int i = visits.lower; i < visits.upper; ++i) {
                    __syncthreads();
                    loadFloatTile<T, tile, D>(Qi, Q, i * tile, launch.queryLength, launch.headSize, false);
                    loadFloatTile<T, tile, D>(
                        dOi, dO, i * tile, launch.queryLength, launch.valueHeadSize, false);
                    __syncthreads();
                    probabilities(launch, plan, Qi, dOi, Kj, Vj, P, dS, firstPair + g, i, j);
                    __syncthreads();
                    gemmTN<tile, scorePitch, pitch, true>(dV, P, dOi);
                    gemmTN<tile, scorePitch, pitch, true>(dK, dS, Qi);
                    addQueryGradient(launch, dS, Kj, firstPair + g, i);
                }
            }
            const float scale = launch.softmaxScale;
            storeProduct(
                dK, Rows<T>(launch.keyGradient, batch, keyHead), j * tile, launch.keyLength, launch.headSize,
                [=](int) { return scale; });
            storeProduct(
                dV, Rows<T>(launch.valueGradient, batch, keyHead), j * tile, launch.keyLength,
                launch.valueHeadSize, [](int) { return 1.0f; });
        }
        __syncthreads();
        for (int64_t index = threadIdx.x; index < sumCount; index += floatThreads) {
            const int64_t row = index / launch.headSize;
            const int head = keyHead * launch.groupSize + int(row / launch.queryLength);
            Rows<T>(launch.queryGradient, batch, head)
                .row(row % launch.queryLength)[index % launch.headSize] =
                Format<T>::narrow(sums[index] * launch.softmaxScale);
        }
    }

private:
    __device__ static void probabilities(
        const AttentionLaunch &launch, const Plan &plan, const float *Qi, const float *dOi, const float *Kj,
        const float *Vj, float *P, float *dS, int pair, int i, int j) {
        Scores S, dP;
        clear(S);
        clear(dP);
        gemmNT<D, pitch, pitch>(S, Qi, Kj);
        gemmNT<D, pitch, pitch>(dP, dOi, Vj);
        const int64_t paddedRows = paddedRowCount(launch);
        const float2 *terms = reinterpret_cast<const float2 *>(launch.rowTerms) + pair * paddedRows;
        const float *lse =
            reinterpret_cast<const float *>(launch.logSumExp) + int64_t(pair) * launch.queryLength;
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const int row = i * tile + threadY() * rowsOfThread + r;
            const TileRange visible = row < launch.queryLength ? plan.visibleKeys(row) : TileRange{0, 0};
#pragma unroll
            for (int c = 0; c < rowsOfThread; ++c) {
                const bool seen = visible.contains(j * tile + threadX() + 16 * c);
                S[r][c] = !seen ? hidden : lse[row] == -INFINITY ? 0 :
                    expf(fmaf(S[r][c], launch.softmaxScale, -lse[row]));
                dP[r][c] = seen ? scoreGradient(S[r][c], dP[r][c], terms[row].y) : hidden;
            }
        }
        Base::store(P, S);
        Base::store(dS, dP);
    }

    __device__ static void addQueryGradient(
        const AttentionLaunch &launch, const float *dS, const float *Kj, int pair, int i) {
        Product dQ;
        clear(dQ);
        gemmNN<tile, scorePitch, pitch, true>(dQ, dS, Kj);
        const Rows<float> sum = Base::working(launch.gradientSum, pair, launch.queryLength, launch.headSize);
#pragma unroll
        for (int r = 0; r < rowsOfThread; ++r) {
            const int row = i * tile + threadY() * rowsOfThread + r;
            if (row >= launch.queryLength) continue;
#pragma unroll
            for (int e = 0; e < columnsOfThread; ++e) {
                const int column = Columns<columnsOfThread>::column(e);
                if (column < launch.headSize) sum.row(row)[column] += dQ[r][e];
            }
        }
    }
};

#define BACKWARD(format, T)                                                                                  \
    FATTN_ENTRY(fattn_fa1_backward_##format##_d64, run, 1, FlashAttention1Backward<T, 64>)                   \
    FATTN_ENTRY(fattn_fa1_backward_##format##_d128, run, 1, FlashAttention1Backward<T, 128>)                 \
    FATTN_ENTRY(fattn_fa1_backward_##format##_d256, run, 1, FlashAttention1Backward<T, 256>)

BACKWARD(bf16, __nv_bfloat16)
BACKWARD(f16, __half)
BACKWARD(f32, float)
