// Attention by the definition, forward: S and P whole in device memory. Any format, any head size.
//
//   1. S = scale Q Kᵀ, -inf outside the mask                NaiveScores
//   2. lse = log-sum-exp of each row, P = exp(S - lse)      NaiveSoftmax
//   3. O = P V                                              NaiveRowProduct
//
// Memory moved: about 5 Nq Nk floats a head, which is why the other algorithms exist.
#include "kernel_entry.cuh"
#include "naive_tiles.cuh"

// P in place of S, and lse. Grid (Nq, B H), 256 threads a row.
struct NaiveSoftmax {
    static constexpr int threads = 256, sharedBytes = 0, queryTile = 1, keyTile = 0;

    __device__ static void run(const AttentionLaunch &launch) {
        __shared__ float parts[threads / 32];
        float *row =
            NaiveTiles::scores(launch.scores, launch, blockIdx.y) + int64_t(blockIdx.x) * launch.keyLength;
        const TileRange visible = NaiveTiles::visibleKeys(launch);
        float maximum = -INFINITY, sum = 0;
        for (int key = threadIdx.x; key < launch.keyLength; key += threads)
            maximum = fmaxf(maximum, row[key]);
        maximum = reduce(maximum, parts, [](float a, float b) { return fmaxf(a, b); });
        const float subtrahend = maximum == -INFINITY ? 0 : maximum;
        for (int key = threadIdx.x; key < launch.keyLength; key += threads)
            sum += expf(row[key] - subtrahend);
        sum = reduce(sum, parts, [](float a, float b) { return a + b; });
        const float inverse = sum == 0 ? 0 : 1 / sum;
        for (int key = threadIdx.x; key < launch.keyLength; key += threads)
            row[key] = visible.contains(key) ? expf(row[key] - subtrahend) * inverse : hidden;
        const int64_t place = int64_t(blockIdx.y) * launch.queryLength + blockIdx.x;
        if (threadIdx.x == 0)
            reinterpret_cast<float *>(launch.logSumExp)[place] = sum == 0 ? -INFINITY : maximum + logf(sum);
    }

private:
    template <typename Combine>
    __device__ static float reduce(float x, float *parts, Combine combine) {
        for (int distance = 16; distance > 0; distance /= 2)
            x = combine(x, __shfl_xor_sync(~0u, x, distance));
        __syncthreads();
        if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
        __syncthreads();
        x = parts[0];
        for (int w = 1; w < threads / 32; ++w) x = combine(x, parts[w]);
        return x;
    }
};

FATTN_ENTRY(fattn_naive_softmax, run, 1, NaiveSoftmax)

#define NAIVE(format, T)                                                                                     \
    FATTN_ENTRY(fattn_naive_scores_##format, run, 1, NaiveScores<T>)                                         \
    FATTN_ENTRY(fattn_naive_output_##format, run, 1, NaiveRowProduct<T, false>)

NAIVE(bf16, __nv_bfloat16)
NAIVE(f16, __half)
NAIVE(f32, float)
