// FlashAttention-2, forward, F16 and BF16: its kernels for each head size.
#include "flash_attention_2_forward.cuh"
#include "kernel_entry.cuh"

// Br, Bc, warps, stages and blocks a processor for each head size. TFLOP/s on an H100 at N 16k, full, bf16:
//   D 64   128, 128, 4, 2: 348    128,  64, 4, 2: 325    128, 64, 8, 2: 279
//   D 128  128,  64, 4, 2: 384    128,  64, 4, 1: 377    128, 64, 8, 2: 289    128, 32, 4, 2: 364
//   D 256   64,  64, 4, 1: 339    128,  64, 8, 2: 321    128, 64, 8, 1: 292     64, 32, 4, 2: 318
#define FORWARD(format, T)                                                                                   \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_forward_##format##_d32, run, 2, FlashAttention2Forward<T, 32, 128, 128, 4, 2, true>)       \
    FATTN_ENTRY(fattn_fa2_forward_##format##_d64, run, 2, FlashAttention2Forward<T, 64, 128, 128, 4, 2>)     \
    FATTN_ENTRY(fattn_fa2_forward_##format##_d96, run, 2, FlashAttention2Forward<T, 96, 128, 64, 4, 2>)      \
    FATTN_ENTRY(fattn_fa2_forward_##format##_d128, run, 2, FlashAttention2Forward<T, 128, 128, 64, 4, 2>)    \
    FATTN_ENTRY(                                                                                             \
        fattn_fa2_forward_##format##_d192, run, 2, FlashAttention2Forward<T, 192, 64, 64, 4, 1, true>)       \
    FATTN_ENTRY(fattn_fa2_forward_##format##_d256, run, 2, FlashAttention2Forward<T, 256, 64, 64, 4, 1>)

FORWARD(bf16, __nv_bfloat16)
FORWARD(f16, __half)
