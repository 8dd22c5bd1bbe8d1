// FlashAttention-2, backward, F16 and BF16: its kernels for each head size.
#include "flash_attention_2_backward.cuh"
#include "flash_attention_2_backward_query.cuh"
#include "flash_attention_2_backward_rows.cuh"
#include "flash_attention_2_backward_wide.cuh"
#include "kernel_entry.cuh"

// The widest heads, with smaller tiles where a block's shared memory is smaller.
template <typename T>
using Backward192 = LargestThatFits<
    FlashAttention2BackwardWide<T, 192, 128, 64, 8, 2, 2, 4, 1>,
    FlashAttention2BackwardWide<T, 192, 64, 64, 8, 2, 2, 4, 2>>;
template <typename T>
using Backward256 = LargestThatFits<
    FlashAttention2BackwardWide<T, 256, 128, 64, 8, 2, 2, 4, 1>,
    FlashAttention2BackwardWide<T, 256, 64, 64, 8, 2, 2, 2, 1>>;
template <typename T>
using BackwardQuery256 =
    LargestThatFits<FlashAttention2BackwardQuery<T, 256, 32, 8>, FlashAttention2BackwardQuery<T, 256, 32, 4>>;

// Br, Bc, warps and how they share the products, for each head size. TFLOP/s on an H100 at N 16k, full, bf16,
// with the passes before and after:
//   D 64   32, 128, 4 warps: 314     64, 128, 4, P through shared memory: 299    128, 128, 8, likewise: 293
//   D 128  64, 128, 8, P in registers: 301    64, 128, 8, P through shared memory: 320
//          64, 64, 4, likewise: 308
//   D 256  128, 64, 8 as 2 | 2 | 4, one stage: 299    as 2 | 2 | 2: 286    as 4 | 2 | 2: 273
//          64, 64, 8 as 2 | 2 | 2, two stages: 260
// Wider query tiles read P, dS, K and V less often from shared memory.
#define BACKWARD(format, T)                                                                                  \
    FATTN_ENTRY(fattn_fa2_backward_##format##_d32, run, 2, FlashAttention2Backward<T, 32, 32, 128, 4, 2>)    \
    FATTN_ENTRY(fattn_fa2_backward_##format##_d64, run, 2, FlashAttention2Backward<T, 64, 32, 128, 4, 1>)    \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_##format##_d96, run, 2, FlashAttention2BackwardWide<T, 96, 64, 64, 4, 2, 2, 2>)   \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_##format##_d128, run, 1, FlashAttention2BackwardWide<T, 128, 64, 128, 8, 4, 4, 2>)\
    FATTN_ENTRY(fattn_fa2_backward_##format##_d192, run, 1, Backward192<T>)                                  \
    FATTN_ENTRY(fattn_fa2_backward_##format##_d256, run, 1, Backward256<T>)                                  \
    FATTN_ENTRY(fattn_fa2_backward_query_##format##_d32, run, 2, FlashAttention2BackwardQuery<T, 32, 64, 4>) \
    FATTN_ENTRY(fattn_fa2_backward_query_##format##_d64, run, 2, FlashAttention2BackwardQuery<T, 64, 64, 4>) \
    FATTN_ENTRY(fattn_fa2_backward_query_##format##_d96, run, 2, FlashAttention2BackwardQuery<T, 96, 64, 4>) \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_query_##format##_d128, run, 2, FlashAttention2BackwardQuery<T, 128, 64, 4>)       \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_backward_query_##format##_d192, run, 1, FlashAttention2BackwardQuery<T, 192, 32, 8>)       \
    FATTN_ENTRY(fattn_fa2_backward_query_##format##_d256, run, 1, BackwardQuery256<T>)                       \
    BACKWARD_ROWS(format, T, 32)                                                                             \
    BACKWARD_ROWS(format, T, 64)                                                                             \
    BACKWARD_ROWS(format, T, 96)                                                                             \
    BACKWARD_ROWS(format, T, 128)                                                                            \
    BACKWARD_ROWS(format, T, 192)                                                                            \
    BACKWARD_ROWS(format, T, 256)

#define BACKWARD_ROWS(format, T, D)                                                                          \
    FATTN_ENTRY(fattn_fa2_backward_prepare_##format##_d##D, run, 1, BackwardPrepare<T, D>)                   \
    FATTN_ENTRY(fattn_fa2_backward_finish_##format##_d##D, run, 1, BackwardFinish<T, D>)

BACKWARD(bf16, __nv_bfloat16)
BACKWARD(f16, __half)
