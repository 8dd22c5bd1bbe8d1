// The named steps of a backward pass on tensor cores, one warp's share of a tile.
//
// Scores are computed transposed, keys by rows: Sᵀ = K Qᵀ. A warp then holds P and dS for its keys in the
// layout of a left operand, and dV += Pᵀ dO and dK += dSᵀ Q take them from registers.
#pragma once

#include "tile_products.cuh"

// One query's lse in log2 units and delta, twice: those of two neighbouring queries.
__device__ inline float4 loadRowTerms(uint32_t terms, int query) {
    float4 pair;
    asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(pair.x), "=f"(pair.y), "=f"(pair.z), "=f"(pair.w)
                 : "r"(terms + query * 8));
    return pair;
}

// Sᵀ becomes Pᵀ = exp2(scale Sᵀ - lse). A row's lse is +inf if it sees no key or does not exist: P = 0.
template <int RowTiles, int Fragments>
__device__ inline void probabilities(
    float (&S)[RowTiles][Fragments][4], uint32_t terms, float scaleLog2, int query, int lane) {
#pragma unroll
    for (int f = 0; f < Fragments; ++f) {
        const float4 pair = loadRowTerms(terms, query + 8 * f + 2 * (lane % 4));
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                S[t][f][e] = exp2Approximate(fmaf(S[t][f][e], scaleLog2, e % 2 ? -pair.z : -pair.x));
    }
}

// dPᵀ starts at -delta, to which V dOᵀ is added: that saves a pass.
template <int RowTiles, int Fragments>
__device__ inline void startAtDelta(
    float (&dP)[RowTiles][Fragments][4], uint32_t terms, int query, int lane) {
#pragma unroll
    for (int f = 0; f < Fragments; ++f) {
        const float4 pair = loadRowTerms(terms, query + 8 * f + 2 * (lane % 4));
#pragma unroll
        for (int t = 0; t < RowTiles; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e) dP[t][f][e] = e % 2 ? -pair.w : -pair.y;
    }
}

// dPᵀ - delta becomes dSᵀ = Pᵀ ∘ (dPᵀ - delta).
template <int RowTiles, int Fragments>
__device__ inline void scoresGradient(
    float (&dP)[RowTiles][Fragments][4], const float (&P)[RowTiles][Fragments][4]) {
#pragma unroll
    for (int t = 0; t < RowTiles; ++t)
#pragma unroll
        for (int f = 0; f < Fragments; ++f)
#pragma unroll
            for (int e = 0; e < 4; ++e) dP[t][f][e] *= P[t][f][e];
}

// Zero where the row does not see the key, of Pᵀ and of dSᵀ: chosen, not multiplied, so that a NaN outside
// the mask stays outside.
template <typename Plan, int RowTiles, int Fragments>
__device__ inline void maskTile(
    float (&c)[RowTiles][Fragments][4], const Plan &plan, int firstQuery, int firstKey, int lane) {
#pragma unroll
    for (int f = 0; f < Fragments; ++f)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int row = firstQuery + 8 * f + 2 * (lane % 4) + e;
            const TileRange visible = row < plan.queryLength ? plan.visibleKeys(row) : TileRange{0, 0};
#pragma unroll
            for (int t = 0; t < RowTiles; ++t)
#pragma unroll
                for (int r = 0; r < 2; ++r)
                    if (!visible.contains(firstKey + 16 * t + 8 * r + lane / 4)) c[t][f][2 * r + e] = 0;
        }
}

// dQ += dS K in device memory, one warp's rows and columns. dS [KeyTile][…] and K [KeyTile][D] are both read
// transposed. `sum` lies in fragments of 16 × 8, four floats a lane, D / 8 fragments a row of them.
template <typename T, int KeyTile, int RowTiles, int Fragments, int Queries, int D>
__device__ inline void addQueryGradient(
    float *sum, const TransposedLeftReader<T, Queries> &dS, const TransposedReader<T, D> &K, int lane) {
    float dQ[RowTiles][Fragments][4];
    clear(dQ);
    constexpr int steps = KeyTile / stepColumns<T>, aTurn = stepsATurn<T, steps>;
    forEachTurn<steps, aTurn>([&](int first) {
        const auto left = dS.advanced(first * TransposedLeftReader<T, Queries>::stepBytes);
        const auto right = K.advanced(first * TransposedReader<T, D>::stepBytes);
#pragma unroll
        for (int k = 0; k < aTurn; ++k) {
            uint32_t a[RowTiles][4];
#pragma unroll
            for (int t = 0; t < RowTiles; ++t) left.load(a[t], k, t);
            multiplyTransposed<T>(dQ, a, right, k);
        }
    });
#pragma unroll
    for (int t = 0; t < RowTiles; ++t)
#pragma unroll
        for (int f = 0; f < Fragments; ++f)
            addToMemory(
                sum + (t * (D / 8) + f) * 128 + lane * 4, dQ[t][f][0], dQ[t][f][1], dQ[t][f][2], dQ[t][f][3]);
}
