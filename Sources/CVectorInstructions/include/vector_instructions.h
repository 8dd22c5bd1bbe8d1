// Instructions that Swift's vector types have no spelling for. Static and inlined: a kernel target that is
// compiled for an instruction set gets the one instruction, and no other target sees it.
#ifndef VECTOR_INSTRUCTIONS_H
#define VECTOR_INSTRUCTIONS_H

#define VECTOR_INSTRUCTION static inline __attribute__((always_inline))

// Starts to bring the cache line of an address to the second cache, and does not wait. The address need not
// exist.
VECTOR_INSTRUCTION void prefetch_line(const void *address) { __builtin_prefetch(address, 0, 2); }

// Asks for the cache line of an address that will be read and written soon.
VECTOR_INSTRUCTION void vector_prefetch(const void *address) { __builtin_prefetch(address, 1); }

// The vectors of the instruction set that a target is compiled for.
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
typedef float vector_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef double vector_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef unsigned int vector_u32 __attribute__((vector_size(VECTOR_BYTES)));
// As many 16-bit numbers as vector_f32 has lanes.
typedef unsigned short vector_u16 __attribute__((vector_size(VECTOR_BYTES / 2)));

// a * b + c and a * b - c, rounded once. (Swift's `addingProduct` is a call for each lane that the optimiser
// has to gather into a vector again, and does not always.)
#define VECTOR_MULTIPLY_ADD(name)                                                                            \
    VECTOR_INSTRUCTION name name##_multiply_add(name a, name b, name c) {                                    \
        return __builtin_elementwise_fma(a, b, c);                                                           \
    }                                                                                                        \
    VECTOR_INSTRUCTION name name##_multiply_subtract(name a, name b, name c) {                               \
        return __builtin_elementwise_fma(a, b, -c);                                                          \
    }

#if defined(__FMA__) || defined(__aarch64__)
VECTOR_MULTIPLY_ADD(vector_f32)
VECTOR_MULTIPLY_ADD(vector_f64)
#endif

// BF16 are the upper halves of float.
VECTOR_INSTRUCTION vector_f32 vector_f32_from_bf16(vector_u16 bits) {
    return (vector_f32)(__builtin_convertvector(bits, vector_u32) << 16);
}

// F16 as float, exactly.
VECTOR_INSTRUCTION vector_f32 vector_f32_from_f16(vector_u16 bits) {
#if defined(__F16C__) || defined(__aarch64__)
    typedef _Float16 halves __attribute__((vector_size(VECTOR_BYTES / 2)));
    return __builtin_convertvector((halves)bits, vector_f32);
#else
    // The exponent and significand moved to where float has them read as 2^-112 of the number.
    vector_u32 wide = __builtin_convertvector(bits, vector_u32);
    vector_f32 magnitude = (vector_f32)((wide & 0x7FFF) << 13) * 0x1p112f;
    vector_u32 special = (vector_u32)((wide & 0x7C00) == 0x7C00) & 0x7F800000;
    return (vector_f32)((vector_u32)magnitude | special | (wide & 0x8000) << 16);
#endif
}

#if defined(__AVX512F__)
#include <immintrin.h>

// Lane i is table[index[i] mod 16].
VECTOR_INSTRUCTION vector_f32 vector_f32_permute(vector_f32 table, vector_u32 index) {
    return (vector_f32)_mm512_permutexvar_ps((__m512i)index, (__m512)table);
}

// The largest lane, where none is NaN. (Halves compared in Swift come out as a hundred instructions.)
VECTOR_INSTRUCTION float vector_f32_largest(vector_f32 x) { return _mm512_reduce_max_ps((__m512)x); }
VECTOR_INSTRUCTION double vector_f64_largest(vector_f64 x) { return _mm512_reduce_max_pd((__m512d)x); }

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

// Pairs of BF16: lane i holds number i of both.
VECTOR_INSTRUCTION vector_f32 vector_f32_interleave(vector_u16 first, vector_u16 second) {
    return (vector_f32)__builtin_shufflevector(
        first, second, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27,
        12, 28, 13, 29, 14, 30, 15, 31);
}

// The lanes rounded to BF16, the even one of two, 32 bytes to any address. Subnormal numbers become 0.
VECTOR_INSTRUCTION void vector_f32_store_bf16(vector_f32 x, void *to) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}
#endif

#endif
