// What the device computes at best, as the ceiling that speeds are given as a share of: matrix instructions
// and multiply-adds on operands that are there already. Nothing is loaded from or stored to memory meanwhile.
//
// launch.queryLength is the number of rounds and launch.output where a number goes for each block, so that
// nothing is computed in vain; a kernel's Br is the FLOPs of one thread in one round.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernel_entry.cuh"
#include "tensor_core.cuh"

// Different bits for every index: on equal ones the arithmetic takes less power and runs faster than on real
// data.
__device__ inline uint32_t scramble(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

// Two bf16 numbers from -1 to 1.
__device__ inline uint32_t randomPair(uint32_t index) {
    const uint32_t bits = scramble(index);
    const float low = int(bits << 16) * 0x1p-31f, high = int(bits & 0xffff0000u) * 0x1p-31f;
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&pair);
}

struct MultiplyAddPeak {
    static constexpr int threads = 256, sharedBytes = 0, chains = 16, steps = 16, keyTile = 0;
    static constexpr int queryTile = 2 * chains * steps;

    __device__ static void run(const AttentionLaunch &launch) {
        float sums[chains];
        const float factor = 0.9f + 1e-3f * threadIdx.x / threads, addend = 1e-3f * (blockIdx.x + 1);
#pragma unroll
        for (int i = 0; i < chains; ++i) sums[i] = threadIdx.x + i;
        for (int round = 0; round < launch.queryLength; ++round) {
#pragma unroll
            for (int i = 0; i < chains * steps; ++i)
                sums[i % chains] = fmaf(sums[i % chains], factor, addend);
        }
        float total = 0;
#pragma unroll
        for (int i = 0; i < chains; ++i) total += sums[i];
        if (threadIdx.x == 0) reinterpret_cast<float *>(launch.output.address)[blockIdx.x] = total;
    }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// wgmma: a warpgroup multiplies 64 x 16 by 16 x 256 out of shared memory, 16 times a round.
struct TensorCorePeak {
    static constexpr int threads = 256, instructions = 16, keyTile = 0;
    static constexpr int queryTile = 2 * 64 * 256 * 16 / 128 * instructions;
    static constexpr int rowBytes = 128, leftBytes = 64 * rowBytes, rightBytes = 256 * rowBytes;
    static constexpr int sharedBytes = 2 * leftBytes + rightBytes;

    // A matrix of rows of 128 bytes, swizzled, eight rows apart by 1024.
    __device__ static uint64_t descriptor(uint32_t address) {
        return uint64_t(address >> 4 & 0x3fff) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 |
               uint64_t(1) << 62;
    }

    __device__ static void run(const AttentionLaunch &launch) {
        extern __shared__ __align__(1024) unsigned char memory[];
        for (int i = threadIdx.x; i < sharedBytes / 4; i += threads)
            reinterpret_cast<uint32_t *>(memory)[i] = randomPair(i);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        const uint64_t left = descriptor(sharedAddress(memory) + threadIdx.x / 128 * leftBytes);
        const uint64_t right = descriptor(sharedAddress(memory) + 2 * leftBytes);
        float sums[128] = {};
        for (int round = 0; round < launch.queryLength; ++round) {
            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
            for (int i = 0; i < instructions; ++i) multiply(sums, left + i % 4 * 2, right + i % 4 * 2);
            asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        }
        float total = 0;
#pragma unroll
        for (int i = 0; i < 128; ++i) total += sums[i];
        if (threadIdx.x == 0) reinterpret_cast<float *>(launch.output.address)[blockIdx.x] = total;
    }

#define SUMS8(i)                                                                                             \
    "+f"(s[i]), "+f"(s[i + 1]), "+f"(s[i + 2]), "+f"(s[i + 3]), "+f"(s[i + 4]), "+f"(s[i + 5]),              \
        "+f"(s[i + 6]), "+f"(s[i + 7])
#define SUMS32(i) SUMS8(i), SUMS8(i + 8), SUMS8(i + 16), SUMS8(i + 24)
    __device__ static void multiply(float (&s)[128], uint64_t left, uint64_t right) {
        asm volatile(
            "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
            "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
            "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
            "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
            "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
            "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
            "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
            "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
            "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
            "}, %128, %129, 1, 1, 1, 0, 0;"
            : SUMS32(0), SUMS32(32), SUMS32(64), SUMS32(96)
            : "l"(left), "l"(right));
    }
};

#else

// mma.sync out of registers, eight sums a warp.
struct TensorCorePeak {
    static constexpr int threads = 256, sharedBytes = 0, sumCount = 8, steps = 4, keyTile = 0;
    static constexpr int queryTile = 2 * 16 * 8 * 16 / 32 * sumCount * steps;

    __device__ static void run(const AttentionLaunch &launch) {
        uint32_t left[4], right[2];
        for (int i = 0; i < 4; ++i) left[i] = randomPair(threadIdx.x * 8 + i);
        for (int i = 0; i < 2; ++i) right[i] = randomPair(threadIdx.x * 8 + 4 + i);
        float sums[sumCount][4] = {};
        for (int round = 0; round < launch.queryLength; ++round) {
#pragma unroll
            for (int i = 0; i < sumCount * steps; ++i) {
                float(&s)[4] = sums[i % sumCount];
                asm volatile(
                    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                    "{%8, %9}, {%0, %1, %2, %3};"
                    : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
                    : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
            }
        }
        float total = 0;
        for (int i = 0; i < sumCount; ++i) total += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
        if (threadIdx.x == 0) reinterpret_cast<float *>(launch.output.address)[blockIdx.x] = total;
    }
};

#endif

FATTN_ENTRY(fattn_peak_multiply_add, run, 2, MultiplyAddPeak)
FATTN_ENTRY(fattn_peak_tensor_core, run, 1, TensorCorePeak)
