// The named steps of a forward pass on tensor cores, one warp's share of a tile.
//
// The steps and their order are those of TileSteps.swift. A warp owns RowTiles × 16 query rows, as fragments.
// P in their layout is already the left operand of O += P V, so it never leaves the registers, and a row's
// statistics meet in four neighbouring lanes: nothing is reduced across warps.
#pragma once

#include "tile_products.cuh"

// Growth of the maximum, in log2, below which O is not rescaled. Until then P stays under 2^8, which F32 sums
// and 16-bit P hold as exactly as values up to 1, and most tiles after the first few skip the pass over O.
constexpr float rescaleThreshold = 8;

// Q = -Q in a tile, for a negative scale; the caller waits before and after.
template <typename T>
__device__ inline void negateTile(uint32_t tile, int bytes) {
    for (int offset = threadIdx.x * 4; offset < bytes; offset += blockDim.x * 4) {
        uint32_t pair;
        asm volatile("ld.shared.b32 %0, [%1];" : "=r"(pair) : "r"(tile + offset));
        storeShared32(tile + offset, pair ^ (sizeof(T) == 4 ? 0x80000000u : 0x80008000u));
    }
}

// ScoreSteps: those of S = Q Kᵀ that its loop takes at each turn.
template <typename T, int D, int KeyTile, int RowTiles, int ScoreSteps = stepsATurn<T, D / stepColumns<T>>>
struct ForwardTileSteps {
    static constexpr int keyFragments = KeyTile / 8;
    static constexpr int valueFragments = D / 8;

    float S[RowTiles][keyFragments][4];
    float O[RowTiles][valueFragments][4];
    float m[RowTiles][2]; // row maximum in log2 units, as of the last rescale
    float l[RowTiles][2]; // this lane's part of the row sum

    __device__ void reset() {
#pragma unroll
        for (int t = 0; t < RowTiles; ++t) {
#pragma unroll
            for (int f = 0; f < valueFragments; ++f)
#pragma unroll
                for (int e = 0; e < 4; ++e) O[t][f][e] = 0;
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                m[t][r] = -INFINITY;
                l[t][r] = 0;
            }
        }
    }

    // All of Q that a warp has, as left operands.
    using Query = uint32_t[D / stepColumns<T>][RowTiles][4];

    // S = Q Kᵀ. Q: [16 RowTiles][D], in shared memory or in registers; K: [KeyTile][D].
    __device__ void scores(const FragmentReader<T, D> &Qi, const FragmentReader<T, D> &K) {
        clear(S);
        multiplyRows<T, D / stepColumns<T>, ScoreSteps>(S, Qi, K);
    }
    __device__ void scores(const Query &Qi, const FragmentReader<T, D> &K) {
        clear(S);
        multiplyRows<T, D / stepColumns<T>>(S, Qi, K);
    }

    // S = -inf where the row does not see the key. `visibleKeys` takes a row of the warp's.
    template <typename VisibleKeys>
    __device__ void maskTile(VisibleKeys visibleKeys, int firstKey, int lane) {
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const TileRange visible = visibleKeys(16 * t + 8 * r + lane / 4);
#pragma unroll
                for (int f = 0; f < keyFragments; ++f)
#pragma unroll
                    for (int c = 0; c < 2; ++c) {
                        int key = firstKey + 8 * f + 2 * (lane % 4) + c;
                        if (!visible.contains(key)) S[t][f][2 * r + c] = -INFINITY;
                    }
            }
    }

    // m = max(m, rowmax S); S becomes P = exp2(scale S - m); l gains its row sums.
    __device__ void onlineSoftmax(float scaleLog2) {
        float correction[RowTiles][2];
        bool grew = false;
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float maximum = -INFINITY;
#pragma unroll
                for (int f = 0; f < keyFragments; ++f)
                    maximum = fmaxf(maximum, fmaxf(S[t][f][2 * r], S[t][f][2 * r + 1]));
                maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 1));
                maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
                float candidate = maximum * scaleLog2, old = m[t][r];
                bool grows = candidate > old + rescaleThreshold;
                m[t][r] = grows ? candidate : old;
                correction[t][r] = grows ? exp2Approximate(old - candidate) : 1.0f;
                grew |= grows;
            }
        if (__any_sync(~0u, grew)) rescale(correction);
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                // A row that has seen no key: -inf - -inf would be NaN.
                float subtrahend = m[t][r] == -INFINITY ? 0 : m[t][r];
                float sum = 0;
#pragma unroll
                for (int f = 0; f < keyFragments; ++f)
#pragma unroll
                    for (int c = 0; c < 2; ++c) {
                        float p = exp2Approximate(fmaf(S[t][f][2 * r + c], scaleLog2, -subtrahend));
                        S[t][f][2 * r + c] = p;
                        sum += p;
                    }
                l[t][r] += sum;
            }
    }

    // O and l move to the new maximum.
    __device__ void rescale(const float (&correction)[RowTiles][2]) {
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                l[t][r] *= correction[t][r];
#pragma unroll
                for (int f = 0; f < valueFragments; ++f) {
                    O[t][f][2 * r] *= correction[t][r];
                    O[t][f][2 * r + 1] *= correction[t][r];
                }
            }
    }

    // O += P V. V: [KeyTile][D], read transposed. P is rounded a step at a time: at D 128 all of it would not
    // fit beside S.
    __device__ void accumulate(const TransposedReader<T, D> &V) {
#pragma unroll
        for (int k = 0; k < KeyTile / stepColumns<T>; ++k) {
            uint32_t p[RowTiles][4];
#pragma unroll
            for (int t = 0; t < RowTiles; ++t) roundFragments<T>(p[t], S[t], k);
            multiplyTransposed<T>(O, p, V, k);
        }
    }

    // O = O / l; lse = m + ln l. An empty row: O = 0, lse = -inf.
    __device__ void finalize(float *logSumExp, int firstRow, int rowLimit, int lane) {
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float sum = l[t][r];
                sum += __shfl_xor_sync(~0u, sum, 1);
                sum += __shfl_xor_sync(~0u, sum, 2);
                const float inverse = sum == 0 ? 0 : reciprocalApproximate(sum);
                const int row = firstRow + 16 * t + 8 * r + lane / 4;
                if (lane % 4 == 0 && row < rowLimit)
                    logSumExp[row] = sum == 0 ? -INFINITY : (m[t][r] + log2f(sum)) * 0.6931471805599453f;
#pragma unroll
                for (int f = 0; f < valueFragments; ++f) {
                    O[t][f][2 * r] *= inverse;
                    O[t][f][2 * r + 1] *= inverse;
                }
            }
    }

    // Whether something not finite is in O of a row whose sum, and so all of whose visible scores, are
    // numbers: it may come from a key that the row does not see. In F32 it may be of a score as well.
    __device__ bool mayHaveLeaked() const {
        bool leaked = false;
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float sum = 0;
#pragma unroll
                for (int f = 0; f < valueFragments; ++f)
                    sum = fmaf(O[t][f][2 * r + 1], 0, fmaf(O[t][f][2 * r], 0, sum));
                leaked |= sum != 0 && (sizeof(T) == 4 || l[t][r] == l[t][r]);
            }
        return leaked;
    }

    // Rounds O into a tile of this warp's rows, which `rows` reads as a left operand.
    __device__ void store(uint32_t tile, const FragmentReader<T, D> &rows, int lane) const {
        if constexpr (sizeof(T) == 4) {
            __syncwarp(); // all lanes have read Q, whose rows these may be
            storeFragments<T, D>(tile, O, 1, 0, 0, lane);
        } else {
            LeftOperand<T, RowTiles, D> words;
            packOperand<T>(words, O);
            storeOperand(rows, words);
        }
    }
};
