// The launch parameters of the GPU kernels: plain C, read by Swift as the module CTileABI and by nvcc.
//
// One structure serves every attention kernel, so that a launch table needs one signature: each kernel takes
// an AttentionLaunch by value and reads what its algorithm names. Pointers are device addresses. Sizes and
// strides count elements, never bytes; the elements of one row are adjacent.
#ifndef TILE_ABI_H
#define TILE_ABI_H

#include <stdint.h>

// AttentionMask of AttentionCore.
enum { TileMaskFull = 0, TileMaskCausalBottomRight = 1, TileMaskCausalTopLeft = 2 };

// Rows of the backward pass's working memory are padded to a multiple of this.
enum { TileRowPadding = 128 };

// A tensor [B, H, N, D] in device memory.
typedef struct {
    uint64_t address;
    int64_t batchStride;
    int64_t headStride;
    int64_t rowStride;
} TileOperand;

typedef struct {
    TileOperand query;          // [B, H, Nq, D]
    TileOperand key;            // [B, Hkv, Nk, D]
    TileOperand value;          // [B, Hkv, Nk, Dv]
    TileOperand output;         // O, [B, H, Nq, Dv]
    TileOperand outputGradient; // dO, [B, H, Nq, Dv]
    TileOperand queryGradient;  // dQ, [B, H, Nq, D]
    TileOperand keyGradient;    // dK, [B, Hkv, Nk, D]
    TileOperand valueGradient;  // dV, [B, Hkv, Nk, Dv]

    uint64_t logSumExp;        // float [B, H, Nq], natural logarithm
    uint64_t rowTerms;         // float [B, H, Nr, 2]: lse in log2 units (+inf for an empty row or none), and
                               // delta = rowsum(dO * O); Nr is Nq rounded up to TileRowPadding
    uint64_t keyLengths;       // int32_t [B]: how many of the keys exist; 0 if all
    uint64_t gradientSum;      // float [B, H, Nr, Dp], dQ before its rounding, in fragment order, Dp being
                               // the bucket of D: see flash_attention_2_backward_rows.cuh; 0 in the
                               // deterministic mode
    uint64_t partialOutput;     // float [splits, B, H, Nq, Dv]: see split_keys_forward.cu
    uint64_t partialStatistics; // float [splits, 2, B, H, Nq]: m and l of partialOutput's rows
    uint64_t scores;            // float [B, H, Nq, Nk]: naive only
    uint64_t scoresGradient;    // float [B, H, Nq, Nk]: naive only

    int32_t batch;         // B
    int32_t heads;         // H
    int32_t keyValueHeads; // Hkv
    int32_t groupSize;     // H / Hkv
    int32_t queryLength;   // Nq
    int32_t keyLength;     // Nk
    int32_t headSize;      // D
    int32_t valueHeadSize; // Dv

    int32_t mask;       // one of TileMask…
    int32_t splits;     // decoding: ranges that the keys are split into
    int32_t vectorised; // 1 if every address, head size and stride is a multiple of 16 bytes
    int32_t pairsAtOnce; // heads whose blocks run side by side: see block_order.cuh; at least 1

    float softmaxScale;
    float softmaxScaleLog2; // softmaxScale * log2(e)
    // |softmaxScaleLog2|, at least the smallest normal float: the factor on scores whose maximum is taken
    // before it, so that the largest stays the largest and -inf stays -inf. The sign of a negative scale goes
    // to Q.
    float positiveScaleLog2;
} AttentionLaunch;

// What the launch of one kernel needs to know of it; each entry point has such a constant beside it.
typedef struct {
    int32_t threads;     // of a block
    int32_t sharedBytes; // dynamic shared memory of a block
    int32_t queryTile;   // Br, 0 where the kernel has no query tiles
    int32_t keyTile;     // Bc, 0 where the kernel has no key tiles
} TileKernelGeometry;

#ifdef __CUDACC__
// Nr
__device__ inline int paddedRowCount(const AttentionLaunch &launch) {
    return (launch.queryLength + TileRowPadding - 1) / TileRowPadding * TileRowPadding;
}
#endif

#endif
