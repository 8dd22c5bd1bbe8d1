// The instructions of the tensor-core kernels, one function each: the PTX is here and nowhere else.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

// What differs between the formats of the elements.
template <typename T>
struct Format;

template <>
struct Format<float> {
    __device__ static float widen(float x) { return x; }
    __device__ static float narrow(float x) { return x; }

    // x = high + low but for 2^-24 x: high is x to the 11 bits that a tensor core reads of a float, which
    // cuts those of low itself.
    __device__ static void split(uint32_t x, uint32_t &high, uint32_t &low) {
        high = (x + 0x1000u) & 0xffffe000u;
        low = __float_as_uint(__uint_as_float(x) - __uint_as_float(high));
    }
    // c += a bᵀ in TF32: a is 16 × 8 by rows, b 8 × 8 by rows.
    __device__ static void multiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <>
struct Format<__nv_bfloat16> {
    // Two floats, rounded to nearest even; `low` is the element of the lower column.
    __device__ static uint32_t pack(float low, float high) {
        uint32_t pair;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
    __device__ static float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
    __device__ static __nv_bfloat16 narrow(float x) { return __float2bfloat16_rn(x); }
    __device__ static float2 unpack(uint32_t pair) {
        return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
    }
    // c += a bᵀ: a is 16 × 16 by rows, b 8 × 16 by rows, c 16 × 8, accumulated in F32.
    __device__ static void multiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <>
struct Format<__half> {
    __device__ static uint32_t pack(float low, float high) {
        uint32_t pair;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
    __device__ static float widen(__half x) { return __half2float(x); }
    __device__ static __half narrow(float x) { return __float2half_rn(x); }
    __device__ static float2 unpack(uint32_t pair) {
        return __half22float2(*reinterpret_cast<const __half2 *>(&pair));
    }
    __device__ static void multiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

// Four 8 × 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void loadMatrices(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

// The same, each matrix transposed on its way.
__device__ inline void loadMatricesTransposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

// The opposite of loadMatrices.
__device__ inline void storeMatrices(uint32_t address, const uint32_t (&r)[4]) {
#if __CUDA_ARCH__ >= 900
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]),
                 "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
#else
    // Lane l holds a pair of row l / 4 of each matrix, whose address lane 8 m + l / 4 gave.
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < 4; ++m) {
        const uint32_t row = __shfl_sync(~0u, address, 8 * m + lane / 4);
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(row + lane % 4 * 4), "r"(r[m]) : "memory");
    }
#endif
}

// 16 bytes from device to shared memory without passing through registers; zeros if `valid` is false.
__device__ inline void copyAsync16(uint32_t shared, const void *global, bool valid) {
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :
                 : "r"(shared), "l"(global), "r"(bytes)
                 : "memory");
}

// 4 or 8 bytes likewise.
template <int Size>
__device__ inline void copyAsyncSmall(uint32_t shared, const void *global, bool valid) {
    int bytes = valid ? Size : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 :
                 : "r"(shared), "l"(global), "n"(Size), "r"(bytes)
                 : "memory");
}

__device__ inline void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `Pending` of this thread's groups are under way.
template <int Pending>
__device__ inline void waitForCopies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// 2^x to two units in the last place; 2^-inf is 0.
__device__ inline float exp2Approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x to one unit in the last place.
__device__ inline float reciprocalApproximate(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two words from shared memory.
__device__ inline void loadShared(uint32_t (&words)[2], uint32_t address) {
    asm volatile("ld.shared.v2.b32 {%0,%1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "r"(address));
}

__device__ inline uint32_t sharedAddress(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Adds four floats to device memory; no result, no order.
__device__ inline void addToMemory(float *address, float a, float b, float c, float d) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1,%2,%3,%4};" ::"l"(address), "f"(a), "f"(b),
                 "f"(c), "f"(d)
                 : "memory");
#else
    atomicAdd(address, a);
    atomicAdd(address + 1, b);
    atomicAdd(address + 2, c);
    atomicAdd(address + 3, d);
#endif
}
