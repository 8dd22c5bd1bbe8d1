// Attention one row at a time with a running maximum and normaliser, forward. Any format.
//
// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867, Algorithm 3,
// with the output carried along as in Rabe and Staats, "Self-attention does not need O(n²) memory", arXiv
// 2112.05682.
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
        if (row() < launch.queryLength)
            OnlineSoftmaxRow<T>::forward(launch, blockIdx.y / launch.heads, blockIdx.y % launch.heads, row());
    }
};

FATTN_ENTRY(fattn_online_forward_bf16, run, 1, OnlineSoftmaxForward<__nv_bfloat16>)
FATTN_ENTRY(fattn_online_forward_f16, run, 1, OnlineSoftmaxForward<__half>)
FATTN_ENTRY(fattn_online_forward_f32, run, 1, OnlineSoftmaxForward<float>)
