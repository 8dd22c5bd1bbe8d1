// FlashAttention-2, forward, F32: its kernels for each head size.
#include "flash_attention_2_forward.cuh"
#include "kernel_entry.cuh"

// Br, Bc, warps, stages and ScoreSteps for each head size. Share of the FFMA peak on an H100 at N 2048, full
// and causal, and of others, some of which spill (s):
//   D 32   64, 32, 2, 1, 4: 0.85 0.83   128, 32, 4, 2, 4: 0.84 0.80   128, 64, 4, 2, 4: 0.80 0.76 s
//   D 64   64, 32, 2, 1, 2: 0.87 0.84   128, 32, 4, 2, 2: 0.87 0.83 s   64, 32, 2, 1, 4: 0.84 0.81 s
//   D 96   128, 32, 4, 1, 2: 0.89 0.84  128, 16, 4, 2, 4: 0.79 0.75   64, 64, 4, 1, 2: 0.79 0.75 s
//   D 128  128, 32, 4, 1, 2: 0.83 0.80  128, 32, 4, 1, 4: 0.88 0.84 s   256, 32, 8, 1, 4: 0.87 0.78 s
//   D 192  64, 32, 4, 1, 4: 0.75 0.73   128, 32, 8, 1, 2: 0.75 0.71   32, 32, 2, 1, 4: 0.61 0.61
//   D 256  128, 32, 8, 1, 1: 0.72 0.69  128, 32, 8, 1, 4: 0.70 0.67   64, 32, 4, 2, 4: 0.44 0.43
template <int D, int QueryTile, int KeyTile, int Warps, int Stages, int ScoreSteps>
using Forward = FlashAttention2Forward<float, D, QueryTile, KeyTile, Warps, Stages, false, ScoreSteps>;

// Small tiles, a row tile a warp: for problems that leave most processors idle.
using Small256 = Forward<256, 64, 16, 4, 2, 2>;
// Where a block has less shared memory, these too.
using Forward256 = LargestThatFits<Forward<256, 128, 32, 8, 1, 1>, Small256>;

FATTN_ENTRY(fattn_fa2_forward_f32_d32, run, 4, Forward<32, 64, 32, 2, 1, 4>)
FATTN_ENTRY(fattn_fa2_forward_f32_d64, run, 4, Forward<64, 64, 32, 2, 1, 2>)
FATTN_ENTRY(fattn_fa2_forward_f32_d96, run, 2, Forward<96, 128, 32, 4, 1, 2>)
FATTN_ENTRY(fattn_fa2_forward_f32_d128, run, 2, Forward<128, 128, 32, 4, 1, 2>)
FATTN_ENTRY(fattn_fa2_forward_f32_d192, run, 2, Forward<192, 64, 32, 4, 1, 4>)
FATTN_ENTRY(fattn_fa2_forward_f32_d256, run, 1, Forward256)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d32, run, 2, Forward<32, 64, 64, 4, 2, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d64, run, 2, Forward<64, 64, 32, 4, 2, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d96, run, 2, Forward<96, 64, 32, 4, 2, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d128, run, 2, Forward<128, 64, 32, 4, 1, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d192, run, 2, Forward<192, 64, 32, 4, 1, 4>)
FATTN_ENTRY(fattn_fa2_forward_small_f32_d256, run, 1, Small256)
