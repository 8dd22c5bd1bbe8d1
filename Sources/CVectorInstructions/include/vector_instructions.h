// Instructions that Swift's vector types have no spelling for. Static and inlined: a kernel target that is
// compiled for an instruction set gets the one instruction, and no other target sees it.
#ifndef VECTOR_INSTRUCTIONS_H
#define VECTOR_INSTRUCTIONS_H

#define VECTOR_INSTRUCTION static inline __attribute__((always_inline))

// Starts to bring the cache line of an address to the second cache, and does not wait. The address need not exist.
VECTOR_INSTRUCTION void prefetch_line(const void *address) { __builtin_prefetch(address, 0, 2); }

// Asks for the cache line of an address that will be read and written soon.
VECTOR_INSTRUCTION void vector_prefetch(const void *address) { __builtin_prefetch(address, 1); }

// a * b + c and a * b - c, rounded once. (Swift's `addingProduct` is a call for each lane that the optimiser has
// to gather into a vector again, and does not always.)
#define VECTOR_MULTIPLY_ADD(type, count, name)                                                                 \
    typedef type name __attribute__((vector_size(sizeof(type) * count)));                                      \
    VECTOR_INSTRUCTION name name##_multiply_add(name a, name b, name c) {                                      \
        return __builtin_elementwise_fma(a, b, c);                                                             \
    }                                                                                                          \
    VECTOR_INSTRUCTION name name##_multiply_subtract(name a, name b, name c) {                                 \
        return __builtin_elementwise_fma(a, b, -c);                                                            \
    }

#if defined(__AVX512F__)
VECTOR_MULTIPLY_ADD(float, 16, vector_f32)
VECTOR_MULTIPLY_ADD(double, 8, vector_f64)
#elif defined(__FMA__)
VECTOR_MULTIPLY_ADD(float, 8, vector_f32)
VECTOR_MULTIPLY_ADD(double, 4, vector_f64)
#elif defined(__aarch64__)
VECTOR_MULTIPLY_ADD(float, 4, vector_f32)
VECTOR_MULTIPLY_ADD(double, 2, vector_f64)
#endif

#if defined(__AVX512F__)
#include <immintrin.h>

typedef unsigned int vector_u32 __attribute__((vector_size(64)));

// Lane i is table[index[i] mod 16].
VECTOR_INSTRUCTION vector_f32 vector_f32_permute(vector_f32 table, vector_u32 index) {
    return (vector_f32)_mm512_permutexvar_ps((__m512i)index, (__m512)table);
}

// x * 2^floor(n), and 0 in lanes where n is below `least`.
VECTOR_INSTRUCTION vector_f32 vector_f32_scale(vector_f32 x, vector_f32 n, vector_f32 least) {
    __mmask16 kept = _mm512_cmp_ps_mask((__m512)n, (__m512)least, _CMP_NLT_UQ);
    return (vector_f32)_mm512_maskz_scalef_ps(kept, (__m512)x, (__m512)n);
}
#endif

#if defined(__AVX512BF16__)
// Each lane of a and b holds a pair of BF16: sum + a * b of both, lane by lane in float, where one product is
// added after the other. Subnormal numbers count as 0, in and out.
VECTOR_INSTRUCTION vector_f32 vector_f32_dot_pairs(vector_f32 sum, vector_f32 a, vector_f32 b) {
    return (vector_f32)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

// The lanes rounded to BF16, the even one of two, 32 bytes to any address. Subnormal numbers become 0.
VECTOR_INSTRUCTION void vector_f32_store_bf16(vector_f32 x, void *to) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}
#endif

#endif
