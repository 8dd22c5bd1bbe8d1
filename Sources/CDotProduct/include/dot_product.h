#ifndef DOT_PRODUCT_H
#define DOT_PRODUCT_H

// The instruction for pairs of BF16, which Swift has no vector type for. Swift inlines these functions into
// kernels that are compiled with -mavx512bf16; for others they do not exist.

#if defined(__AVX512BF16__)

typedef float dot_product_vector __attribute__((ext_vector_type(16)));

/// Each lane of `a` and `b` holds a pair of BF16: `sum + a · b` of both, lane by lane in Float, where one
/// product is added after the other. Subnormal numbers count as 0, in and out.
static inline __attribute__((always_inline)) dot_product_vector
dot_product_of_pairs(dot_product_vector sum, dot_product_vector a, dot_product_vector b) {
    typedef __bf16 pairs __attribute__((vector_size(64)));
    typedef float floats __attribute__((vector_size(64)));
    return (dot_product_vector)__builtin_ia32_dpbf16ps_512((floats)sum, (pairs)a, (pairs)b);
}

#endif

#endif
