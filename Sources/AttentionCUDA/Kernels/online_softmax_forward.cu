// Attention one row at a time with a running maximum and normaliser, forward. Any format.
//
// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867, Algorithm 3, with the
// output carried along as in Rabe and Staats, "Self-attention does not need O(n²) memory", arXiv 2112.05682.
//
//   1. One warp takes a query row: m = -inf, l = 0, O = 0.
//   2. For each key the row sees:
//   3.   s = scale q·k
//   4.   m' = max(m, s), l = l e^(m - m') + e^(s - m'), O = O e^(m - m') + e^(s - m') v
//   5. O = O / l, lse = m + ln l
//
// No tiles: each row of K and V is read again for every query row, which is what FlashAttention's tiles save.
#include "kernel_entry.cuh"
#include "online_softmax_rows.cuh"

// Grid (ceil(Nq / 4), B H).
template <typename T>
struct OnlineSoftmaxForward : OnlineSoftmax {
    __device__ static void run(const AttentionLaunch &launch) {
        const int row = blockIdx.x * rowsPerBlock + threadIdx.x / 32;
        if (row >= launch.queryLength) return;
        const int batch = blockIdx.y / launch.heads, head = blockIdx.y % launch.heads;
        const TileRange visible = Plan(launch, batch).visibleKeys(row);
        const Rows<const T> K(launch.key, batch, head / launch.groupSize);
        const Rows<const T> V(launch.value, batch, head / launch.groupSize);
        const WarpRow q = WarpRow::load(Rows<const T>(launch.query, batch, head).row(row), launch.headSize);
        WarpRow O = WarpRow::zero();
        float m = -INFINITY, l = 0;
        for (int key = visible.lower; key < visible.upper; ++key) {
            const float s = q.dot(WarpRow::load(K.row(key), launch.headSize)) * launch.softmaxScale;
            const float larger = fmaxf(m, s), subtrahend = larger == -INFINITY ? 0 : larger;
            const float correction = expf(m - subtrahend), p = expf(s - subtrahend);
            l = l * correction + p;
            O.update(correction, p, WarpRow::load(V.row(key), launch.valueHeadSize));
            m = larger;
        }
        O.store(Rows<T>(launch.output, batch, head).row(row), launch.valueHeadSize, l == 0 ? 0 : 1 / l);
        if (threadIdx.x % 32 == 0)
            reinterpret_cast<float *>(launch.logSumExp)[int64_t(blockIdx.y) * launch.queryLength + row] =
                l == 0 ? -INFINITY : m + logf(l);
    }
};

FATTN_ENTRY(fattn_online_forward_bf16, run, 1, OnlineSoftmaxForward<__nv_bfloat16>)
FATTN_ENTRY(fattn_online_forward_f16, run, 1, OnlineSoftmaxForward<__half>)
FATTN_ENTRY(fattn_online_forward_f32, run, 1, OnlineSoftmaxForward<float>)
