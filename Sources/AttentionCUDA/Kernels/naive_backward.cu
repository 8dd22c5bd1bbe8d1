// Attention by the definition, backward: P and dS whole in device memory. Any format, any head size.
//
//   1. delta = rowsum(dO ∘ O)                               BackwardPrepare
//   2. S as in the forward pass, P = exp(S - lse)           NaiveScores (naive_forward.cu),
//                                                           NaiveProbabilities
//   3. dV = Pᵀ dO                                           NaiveKeyProduct
//   4. dS = P ∘ (dO Vᵀ - delta)                             NaiveScoresGradient
//   5. dK = scale dSᵀ Q, dQ = scale dS K                    NaiveKeyProduct, NaiveRowProduct
//
// dV and dK are sums over the query heads of a key/value head, in a fixed order.
#include "flash_attention_2_backward_rows.cuh"
#include "kernel_entry.cuh"
#include "naive_tiles.cuh"

// P = exp(S - lse) in place, lse from the forward pass. Grid (Nq, B H), 256 threads a row.
struct NaiveProbabilities {
    static constexpr int threads = 256, sharedBytes = 0, queryTile = 1, keyTile = 0;

    __device__ static void run(const AttentionLaunch &launch) {
        float *row =
            NaiveTiles::scores(launch.scores, launch, blockIdx.y) + int64_t(blockIdx.x) * launch.keyLength;
        const TileRange visible = NaiveTiles::visibleKeys(launch);
        const float *allLSE = reinterpret_cast<const float *>(launch.logSumExp);
        const float lse = allLSE[int64_t(blockIdx.y) * launch.queryLength + blockIdx.x];
        for (int key = threadIdx.x; key < launch.keyLength; key += threads)
            row[key] = !visible.contains(key) ? hidden : lse == -INFINITY ? 0 : expf(row[key] - lse);
    }
};

// dS = P ∘ (dO Vᵀ - delta). Grid (ceil(Nk / 64), ceil(Nq / 64), B H).
template <typename T>
struct NaiveScoresGradient : NaiveTiles {
    __device__ static void run(const AttentionLaunch &launch) {
        const int pair = blockIdx.z, batch = pair / launch.heads, head = pair % launch.heads;
        const int firstRow = blockIdx.y * tile, firstKey = blockIdx.x * tile;
        const Plan plan(launch, batch);
        Product dP;
        products(
            dP, Rows<const T>(launch.outputGradient, batch, head), firstRow, launch.queryLength,
            Rows<const T>(launch.value, batch, head / launch.groupSize), firstKey, plan.keyLength,
            launch.valueHeadSize);
        const float *P = scores(launch.scores, launch, pair);
        float *dS = scores(launch.scoresGradient, launch, pair);
        const int64_t paddedRows = paddedRowCount(launch);
        const float2 *terms = reinterpret_cast<const float2 *>(launch.rowTerms) + pair * paddedRows;
        forEachScore(
            launch, plan, firstRow, firstKey, dP,
            [&](int64_t place, int row, float product, bool isVisible) {
                dS[place] = isVisible ? scoreGradient(P[place], product, terms[row].y) : hidden;
            });
    }
};

// C = factor · Mᵀ B, summed over the query heads of a key/value head: dV = Pᵀ dO and dK = scale dSᵀ Q.
// Grid (ceil(columns / 64), ceil(Nk / 64), B Hkv).
template <typename T, bool Gradient>
struct NaiveKeyProduct : NaiveTiles {
    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        float *a = reinterpret_cast<float *>(memory), *b = a + tile * pitch;
        const int batch = blockIdx.z / launch.keyValueHeads, keyHead = blockIdx.z % launch.keyValueHeads;
        const int firstKey = blockIdx.y * tile, firstColumn = blockIdx.x * tile;
        const int size = Gradient ? launch.headSize : launch.valueHeadSize;
        Product c;
        clear(c);
        for (int g = 0; g < launch.groupSize; ++g) {
            const int head = keyHead * launch.groupSize + g;
            const Rows<const float> M = scoreRows(
                Gradient ? launch.scoresGradient : launch.scores, launch, batch * launch.heads + head);
            const Rows<const T> B(Gradient ? launch.query : launch.outputGradient, batch, head);
            for (int row = 0; row < launch.queryLength; row += step) {
                __syncthreads();
                loadFloatTile<float, step, tile>(
                    a, M, row, launch.queryLength, launch.keyLength, false, firstKey);
                loadFloatTile<T, step, tile>(b, B, row, launch.queryLength, size, false, firstColumn);
                __syncthreads();
                gemmTN<step, pitch, pitch, true>(c, a, b);
            }
        }
        storeProduct(
            c, Rows<T>(Gradient ? launch.keyGradient : launch.valueGradient, batch, keyHead), firstKey,
            launch.keyLength, size, [&](int) { return Gradient ? launch.softmaxScale : 1.0f; }, firstColumn);
    }
};

FATTN_ENTRY(fattn_naive_probabilities, run, 1, NaiveProbabilities)
FATTN_ENTRY(fattn_naive_backward_prepare_f32, run, 1, BackwardPrepare<float, 0, true>)

#define NAIVE(format, T)                                                                                     \
    FATTN_ENTRY(fattn_naive_scores_gradient_##format, run, 1, NaiveScoresGradient<T>)                        \
    FATTN_ENTRY(fattn_naive_value_gradient_##format, run, 1, NaiveKeyProduct<T, false>)                      \
    FATTN_ENTRY(fattn_naive_key_gradient_##format, run, 1, NaiveKeyProduct<T, true>)                         \
    FATTN_ENTRY(fattn_naive_query_gradient_##format, run, 1, NaiveRowProduct<T, true>)

NAIVE(bf16, __nv_bfloat16)
NAIVE(f16, __half)
NAIVE(f32, float)
