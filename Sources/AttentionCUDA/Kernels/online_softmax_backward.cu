// Attention one row at a time, backward. Any format.
//
// Source: as for online_softmax_forward.cu; the gradient as in Dao, arXiv 2307.08691, section 2.3.2.
//
//   1. delta = rowsum(dO ∘ O)                               BackwardPrepare
//   2. One warp takes a query row; for each key it sees: p = e^(s - lse), ds = p (dO·v - delta), dq += scale
//      ds k.
//   3. One warp takes a key; for each query row that sees it, of each query head of the group: p and ds
//      again, dv += p dO, dk += scale ds q.
#include "kernel_entry.cuh"
#include "online_softmax_rows.cuh"

// Grid (ceil(Nq / 4), B H).
template <typename T>
struct OnlineSoftmaxBackwardQuery : OnlineSoftmax {
    __device__ static void run(const AttentionLaunch &launch) {
        if (row() < launch.queryLength)
            OnlineSoftmaxRow<T>::queryGradient(
                launch, blockIdx.y / launch.heads, blockIdx.y % launch.heads, row());
    }
};

// Grid (ceil(Nk / 4), B Hkv).
template <typename T>
struct OnlineSoftmaxBackwardKeys : OnlineSoftmax {
    __device__ static void run(const AttentionLaunch &launch) {
        if (row() < launch.keyLength)
            OnlineSoftmaxRow<T>::keyGradients(
                launch, blockIdx.y / launch.keyValueHeads, blockIdx.y % launch.keyValueHeads, row());
    }
};

#define ONLINE(format, T)                                                                                    \
    FATTN_ENTRY(fattn_online_backward_query_##format, run, 1, OnlineSoftmaxBackwardQuery<T>)                 \
    FATTN_ENTRY(fattn_online_backward_keys_##format, run, 1, OnlineSoftmaxBackwardKeys<T>)

ONLINE(bf16, __nv_bfloat16)
ONLINE(f16, __half)
ONLINE(f32, float)
