// Attention one row at a time, backward. Any format.
//
// Source: as for online_softmax_forward.cu; the gradient as in Dao, arXiv 2307.08691, section 2.3.2.
//
//   1. delta = rowsum(dO ∘ O)                               BackwardPrepare
//   2. One warp takes a query row; for each key it sees: p = e^(s - lse), ds = p (dO·v - delta), dq += scale ds k.
//   3. One warp takes a key; for each query row that sees it, of each query head of the group: p and ds again,
//      dv += p dO, dk += scale ds q.
#include "kernel_entry.cuh"
#include "online_softmax_rows.cuh"

// Grid (ceil(Nq / 4), B H).
template <typename T>
struct OnlineSoftmaxBackwardQuery : OnlineSoftmax {
    __device__ static void run(const AttentionLaunch &launch) {
        const int row = blockIdx.x * rowsPerBlock + threadIdx.x / 32;
        if (row >= launch.queryLength) return;
        const int batch = blockIdx.y / launch.heads, head = blockIdx.y % launch.heads;
        const TileRange visible = Plan(launch, batch).visibleKeys(row);
        const Rows<const T> K(launch.key, batch, head / launch.groupSize);
        const Rows<const T> V(launch.value, batch, head / launch.groupSize);
        const WarpRow q = WarpRow::load(Rows<const T>(launch.query, batch, head).row(row), launch.headSize);
        const WarpRow dO =
            WarpRow::load(Rows<const T>(launch.outputGradient, batch, head).row(row), launch.valueHeadSize);
        const float2 term = reinterpret_cast<const float2 *>(launch.rowTerms)[blockIdx.y * paddedRows(launch) + row];
        WarpRow dQ = WarpRow::zero();
        for (int key = visible.lower; key < visible.upper; ++key) {
            const WarpRow k = WarpRow::load(K.row(key), launch.headSize);
            const float p = exp2f(q.dot(k) * launch.softmaxScaleLog2 - term.x);
            const float dP = dO.dot(WarpRow::load(V.row(key), launch.valueHeadSize));
            dQ.update(1, p * (dP - term.y), k);
        }
        dQ.store(Rows<T>(launch.queryGradient, batch, head).row(row), launch.headSize, launch.softmaxScale);
    }
};

// Grid (ceil(Nk / 4), B Hkv).
template <typename T>
struct OnlineSoftmaxBackwardKeys : OnlineSoftmax {
    __device__ static void run(const AttentionLaunch &launch) {
        const int key = blockIdx.x * rowsPerBlock + threadIdx.x / 32;
        if (key >= launch.keyLength) return;
        const int batch = blockIdx.y / launch.keyValueHeads, keyHead = blockIdx.y % launch.keyValueHeads;
        const Plan plan(launch, batch);
        WarpRow dK = WarpRow::zero(), dV = WarpRow::zero();
        if (key < plan.keyLength) {
            const TileRange rows = plan.visibleQueries(key);
            const WarpRow k = WarpRow::load(Rows<const T>(launch.key, batch, keyHead).row(key), launch.headSize);
            const WarpRow v =
                WarpRow::load(Rows<const T>(launch.value, batch, keyHead).row(key), launch.valueHeadSize);
            for (int g = 0; g < launch.groupSize; ++g) {
                const int head = keyHead * launch.groupSize + g;
                const Rows<const T> Q(launch.query, batch, head), gradient(launch.outputGradient, batch, head);
                const float2 *terms = reinterpret_cast<const float2 *>(launch.rowTerms) +
                    (int64_t(batch) * launch.heads + head) * paddedRows(launch);
                for (int row = rows.lower; row < rows.upper; ++row) {
                    const WarpRow q = WarpRow::load(Q.row(row), launch.headSize);
                    const WarpRow dO = WarpRow::load(gradient.row(row), launch.valueHeadSize);
                    const float p = exp2f(q.dot(k) * launch.softmaxScaleLog2 - terms[row].x);
                    dV.update(1, p, dO);
                    dK.update(1, p * (dO.dot(v) - terms[row].y), q);
                }
            }
        }
        dK.store(Rows<T>(launch.keyGradient, batch, keyHead).row(key), launch.headSize, launch.softmaxScale);
        dV.store(Rows<T>(launch.valueGradient, batch, keyHead).row(key), launch.valueHeadSize, 1);
    }
};

#define ONLINE(format, T)                                                                                             \
    FATTN_ENTRY(fattn_online_backward_query_##format, run, 1, OnlineSoftmaxBackwardQuery<T>)                          \
    FATTN_ENTRY(fattn_online_backward_keys_##format, run, 1, OnlineSoftmaxBackwardKeys<T>)

ONLINE(bf16, __nv_bfloat16)
ONLINE(f16, __half)
ONLINE(f32, float)
