// The online-softmax algorithm on one row or one key, each the work of one warp: for its own kernels, and for
// tiled kernels to fall back to in rows that a mask has to keep clean of NaN and infinities.
//
// A product of tiles adds 0 · v for a key that a row does not see. That is nothing, unless v is NaN or
// infinite: then the row is lost, since no matrix product skips a term. It always shows in the result, which
// is NaN there; so a kernel of tiles looks at what it is about to write, under a mask only, and where that is
// not finite has the row computed once more here, where only visible keys are read. Finite inputs pay for one
// look at the result.
//
// Lane l holds elements l, l + 32, … of every row.
#pragma once

#include "shared_tile.cuh"

// Over the lanes of a warp.
__device__ inline float warpSum(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
}
__device__ inline float warpMaximum(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
    return x;
}

// One row, shared out over a warp.
struct WarpRow {
    static constexpr int parts = 8; // up to 256 elements
    float x[parts];

    __device__ static WarpRow zero() {
        WarpRow row;
#pragma unroll
        for (int p = 0; p < parts; ++p) row.x[p] = 0;
        return row;
    }
    template <typename T>
    __device__ static WarpRow load(const T *source, int size) {
        WarpRow row;
#pragma unroll
        for (int p = 0; p < parts; ++p) {
            const int d = p * 32 + threadIdx.x % 32;
            row.x[p] = d < size ? Format<T>::widen(source[d]) : 0;
        }
        return row;
    }
    template <typename T>
    __device__ void store(T *target, int size, float factor) const {
#pragma unroll
        for (int p = 0; p < parts; ++p) {
            const int d = p * 32 + threadIdx.x % 32;
            if (d < size) target[d] = Format<T>::narrow(x[p] * factor);
        }
    }
    __device__ float dot(const WarpRow &other) const {
        float sum = 0;
#pragma unroll
        for (int p = 0; p < parts; ++p) sum = fmaf(x[p], other.x[p], sum);
        return warpSum(sum);
    }
    // self = self · factor + other · weight
    __device__ void update(float factor, float weight, const WarpRow &other) {
#pragma unroll
        for (int p = 0; p < parts; ++p) x[p] = fmaf(weight, other.x[p], x[p] * factor);
    }
};

// Whether all of a thread's values are finite: 0 · x is not 0 only if x is not.
template <int Rows, int Columns, int Count>
__device__ inline bool isFinite(const float (&c)[Rows][Columns][Count]) {
    float sum = 0;
#pragma unroll
    for (int t = 0; t < Rows; ++t)
#pragma unroll
        for (int f = 0; f < Columns; ++f)
#pragma unroll
            for (int e = 0; e < Count; ++e) sum = fmaf(c[t][f][e], 0, sum);
    return sum == 0;
}
template <int Rows, int Count>
__device__ inline bool isFinite(const float (&c)[Rows][Count]) {
    return isFinite(reinterpret_cast<const float(&)[1][Rows][Count]>(c));
}

// Whether a product of tiles may hold something not finite where the result is something else: from what a
// mask hides; in F32 from any infinity, whose low part is infinity less infinity.
template <typename T>
__device__ inline bool mayLeak(const AttentionLaunch &launch) {
    return sizeof(T) == 4 || launch.mask != TileMaskFull;
}

template <typename T>
struct OnlineSoftmaxRow {
    using Plan = TilePlan<1, 1>;

    // O and lse of one query row.
    __device__ static void forward(const AttentionLaunch &launch, int batch, int head, int row) {
        const TileRange visible = Plan(launch, batch).visibleKeys(row);
        const Rows<const T> K(launch.key, batch, head / launch.groupSize);
        const Rows<const T> V(launch.value, batch, head / launch.groupSize);
        const WarpRow q = WarpRow::load(Rows<const T>(launch.query, batch, head).row(row), launch.headSize);
        WarpRow O = WarpRow::zero();
        float m = -INFINITY, l = 0;
#pragma unroll 1
        for (int key = visible.lower; key < visible.upper; ++key) {
            const float s = q.dot(WarpRow::load(K.row(key), launch.headSize)) * launch.softmaxScale;
            const float larger = fmaxf(m, s), subtrahend = larger == -INFINITY ? 0 : larger;
            const float correction = expf(m - subtrahend), p = expf(s - subtrahend);
            l = l * correction + p;
            O.update(correction, p, WarpRow::load(V.row(key), launch.valueHeadSize));
            m = larger;
        }
        O.store(Rows<T>(launch.output, batch, head).row(row), launch.valueHeadSize, l == 0 ? 0 : 1 / l);
        float *lse = reinterpret_cast<float *>(launch.logSumExp);
        if (threadIdx.x % 32 == 0)
            lse[rowIndex(launch, batch, head, launch.queryLength) + row] = l == 0 ? -INFINITY : m + logf(l);
    }

    // dQ of one query row.
    __device__ static void queryGradient(const AttentionLaunch &launch, int batch, int head, int row) {
        const TileRange visible = Plan(launch, batch).visibleKeys(row);
        const Rows<const T> K(launch.key, batch, head / launch.groupSize);
        const Rows<const T> V(launch.value, batch, head / launch.groupSize);
        const WarpRow q = WarpRow::load(Rows<const T>(launch.query, batch, head).row(row), launch.headSize);
        const WarpRow dO =
            WarpRow::load(Rows<const T>(launch.outputGradient, batch, head).row(row), launch.valueHeadSize);
        const float2 term = terms(launch, batch, head)[row];
        WarpRow dQ = WarpRow::zero();
#pragma unroll 1
        for (int key = visible.lower; key < visible.upper; ++key) {
            const WarpRow k = WarpRow::load(K.row(key), launch.headSize);
            const float p = exp2f(q.dot(k) * launch.softmaxScaleLog2 - term.x);
            const float dP = dO.dot(WarpRow::load(V.row(key), launch.valueHeadSize));
            dQ.update(1, p * (dP - term.y), k);
        }
        dQ.store(Rows<T>(launch.queryGradient, batch, head).row(row), launch.headSize, launch.softmaxScale);
    }

    // dK and dV of one key.
    __device__ static void keyGradients(const AttentionLaunch &launch, int batch, int keyHead, int key) {
        const Plan plan(launch, batch);
        WarpRow dK = WarpRow::zero(), dV = WarpRow::zero();
        if (key < plan.keyLength) {
            const TileRange rows = plan.visibleQueries(key);
            const WarpRow k =
                WarpRow::load(Rows<const T>(launch.key, batch, keyHead).row(key), launch.headSize);
            const WarpRow v =
                WarpRow::load(Rows<const T>(launch.value, batch, keyHead).row(key), launch.valueHeadSize);
#pragma unroll 1
            for (int g = 0; g < launch.groupSize; ++g) {
                const int head = keyHead * launch.groupSize + g;
                const Rows<const T> Q(launch.query, batch, head),
                    gradient(launch.outputGradient, batch, head);
                const float2 *rowTerms = terms(launch, batch, head);
#pragma unroll 1
                for (int row = rows.lower; row < rows.upper; ++row) {
                    const WarpRow q = WarpRow::load(Q.row(row), launch.headSize);
                    const WarpRow dO = WarpRow::load(gradient.row(row), launch.valueHeadSize);
                    const float p = exp2f(q.dot(k) * launch.softmaxScaleLog2 - rowTerms[row].x);
                    dV.update(1, p, dO);
                    dK.update(1, p * (dO.dot(v) - rowTerms[row].y), q);
                }
            }
        }
        dK.store(Rows<T>(launch.keyGradient, batch, keyHead).row(key), launch.headSize, launch.softmaxScale);
        dV.store(Rows<T>(launch.valueGradient, batch, keyHead).row(key), launch.valueHeadSize, 1);
    }

private:
    // The first row of a head among those of all heads.
    __device__ static int64_t rowIndex(const AttentionLaunch &launch, int batch, int head, int rows) {
        return (int64_t(batch) * launch.heads + head) * rows;
    }
    // The lse and delta of a head's rows.
    __device__ static const float2 *terms(const AttentionLaunch &launch, int batch, int head) {
        return reinterpret_cast<const float2 *>(launch.rowTerms) +
               rowIndex(launch, batch, head, paddedRowCount(launch));
    }
};

// The fall-backs of tiled kernels, one warp's work each: rows or keys first, first + step, … below a limit.
// Out of line, so that the loops of the kernels keep their registers.
template <typename T>
__device__ __noinline__ void recomputeRows(const AttentionLaunch &launch, int pair, int first, int limit) {
    for (int row = first; row < limit; ++row)
        OnlineSoftmaxRow<T>::forward(launch, pair / launch.heads, pair % launch.heads, row);
}
template <typename T>
__device__ __noinline__ void recomputeQueryGradients(
    const AttentionLaunch &launch, int pair, int first, int limit) {
    for (int row = first; row < limit; ++row)
        OnlineSoftmaxRow<T>::queryGradient(launch, pair / launch.heads, pair % launch.heads, row);
}
template <typename T>
__device__ __noinline__ void recomputeKeyGradients(
    const AttentionLaunch &launch, int pair, int first, int limit, int step) {
    for (int key = first; key < limit; key += step)
        OnlineSoftmaxRow<T>::keyGradients(
            launch, pair / launch.keyValueHeads, pair % launch.keyValueHeads, key);
}

// The shape of the algorithm's own kernels: four warps, each with a row.
struct OnlineSoftmax {
    static constexpr int threads = 128, sharedBytes = 0, rowsPerBlock = threads / 32;
    static constexpr int queryTile = rowsPerBlock, keyTile = rowsPerBlock;

    __device__ static int row() { return blockIdx.x * rowsPerBlock + threadIdx.x / 32; }
};
