// FlashAttention-2, backward, F32: its kernels for each head size.
#include "flash_attention_2_backward_query.cuh"
#include "flash_attention_2_backward_rows.cuh"
#include "flash_attention_2_backward_wide.cuh"
#include "kernel_entry.cuh"

// Br, Bc, warps and how they share the products, for each head size; one stage, at D 96 two. Share of the
// FFMA peak on an H100 at N 2048, full and causal, all launches, and of others, some of which spill (s):
//   D 32   64, 32, 2 as 1 | 1 | 2: 0.81 0.75   64, 64, 4 as 2 | 2 | 2: 0.79 0.75 s
//   D 64   64, 64, 4 as 2 | 2 | 2: 0.90 0.85   64, 128, 8 as 4 | 4 | 4: 0.85 0.78
//   D 96   32, 64, 4 as 2 | 2 | 2: 0.83 0.79   64, 128, 8 as 4 | 4 | 4: 0.85 0.78 s
//   D 128  64, 64, 8 as 4 | 2 | 2: 0.81 0.77   32, 128, 8 as 8 | 4 | 2: 0.80 0.74
//   D 192  64, 64, 8 as 4 | 2 | 4: 0.82 0.78   64, 32, 8 as 2 | 2 | 4: 0.71 0.67
//   D 256  64, 32, 8 as 2 | 1 | 2: 0.75 0.70   32, 64, 8 as 4 | 2 | 2: 0.76 0.73 s
template <
    int D, int QueryTile, int KeyTile, int Warps, int ScoreWarps, int GradientWarps, int QueryWarps,
    int Stages = 1>
using Backward = FlashAttention2BackwardWide<
    float, D, QueryTile, KeyTile, Warps, ScoreWarps, GradientWarps, QueryWarps, Stages>;

template <int D, int KeyTile, int Warps>
using Query = FlashAttention2BackwardQuery<float, D, KeyTile, Warps>;

// Where a block has less shared memory, smaller tiles.
using Small192 = Backward<192, 64, 32, 8, 2, 2, 4>;
using Backward192 = LargestThatFits<Backward<192, 64, 64, 8, 4, 2, 4>, Small192>;
using Backward256 = LargestThatFits<Backward<256, 64, 32, 8, 2, 1, 2>, Backward<256, 32, 32, 4, 2, 2, 2>>;
using Query256 = LargestThatFits<Query<256, 32, 2>, Query<256, 16, 2>>;

FATTN_ENTRY(fattn_fa2_backward_f32_d32, run, 4, Backward<32, 64, 32, 2, 1, 1, 2>)
FATTN_ENTRY(fattn_fa2_backward_f32_d64, run, 2, Backward<64, 64, 64, 4, 2, 2, 2>)
FATTN_ENTRY(fattn_fa2_backward_f32_d96, run, 2, Backward<96, 32, 64, 4, 2, 2, 2, 2>)
FATTN_ENTRY(fattn_fa2_backward_f32_d128, run, 1, Backward<128, 64, 64, 8, 4, 2, 2>)
FATTN_ENTRY(fattn_fa2_backward_f32_d192, run, 1, Backward192)
FATTN_ENTRY(fattn_fa2_backward_f32_d256, run, 1, Backward256)

// For problems that leave most processors idle.
FATTN_ENTRY(fattn_fa2_backward_small_f32_d32, run, 2, Backward<32, 64, 32, 4, 2, 2, 4>)
FATTN_ENTRY(fattn_fa2_backward_small_f32_d64, run, 2, Backward<64, 64, 32, 4, 2, 2, 4>)
FATTN_ENTRY(fattn_fa2_backward_small_f32_d96, run, 2, Backward<96, 64, 32, 4, 2, 2, 4>)
FATTN_ENTRY(fattn_fa2_backward_small_f32_d128, run, 1, Backward<128, 64, 32, 8, 2, 2, 4>)
FATTN_ENTRY(fattn_fa2_backward_small_f32_d192, run, 1, Small192)
FATTN_ENTRY(fattn_fa2_backward_small_f32_d256, run, 1, Backward256)

FATTN_ENTRY(fattn_fa2_backward_query_f32_d32, run, 2, Query<32, 32, 4>)
FATTN_ENTRY(fattn_fa2_backward_query_f32_d64, run, 2, Query<64, 32, 4>)
FATTN_ENTRY(fattn_fa2_backward_query_f32_d96, run, 2, Query<96, 32, 4>)
FATTN_ENTRY(fattn_fa2_backward_query_f32_d128, run, 2, Query<128, 16, 4>)
FATTN_ENTRY(fattn_fa2_backward_query_f32_d192, run, 1, Query<192, 16, 4>)
FATTN_ENTRY(fattn_fa2_backward_query_f32_d256, run, 1, Query256)

#define BACKWARD_ROWS(D)                                                                                     \
    FATTN_ENTRY(fattn_fa2_backward_prepare_f32_d##D, run, 1, BackwardPrepare<float, D>)                      \
    FATTN_ENTRY(fattn_fa2_backward_finish_f32_d##D, run, 1, BackwardFinish<float, D>)

BACKWARD_ROWS(32)
BACKWARD_ROWS(64)
BACKWARD_ROWS(96)
BACKWARD_ROWS(128)
BACKWARD_ROWS(192)
BACKWARD_ROWS(256)
