// How a kernel gets its name: an entry point and, beside it, what its launch needs.
//
// fattn_<algorithm>_<step>_<format>[_d<bucket>], format being bf16, f16 or f32 and the bucket the smallest of
// 32, 64, 96, 128, 192 and 256 that holds both D and Dv. The host finds the entry by that name and reads its
// geometry from the constant <entry>_geometry in the same module: tile sizes are written down once, here.
#pragma once

#include "tile_abi.h"

// The shared memory that a block may have: 227 KiB on compute capability 9.0, 163 KiB on 8.0, whose kernels
// the PTX for other devices is too.
#if __CUDA_ARCH__ >= 900
constexpr int sharedMemoryLimit = 227 * 1024;
#else
constexpr int sharedMemoryLimit = 163 * 1024;
#endif

// The first of two kernels if a block's shared memory holds it, or else the second, with smaller tiles.
template <typename First, typename Second, bool fits = First::sharedBytes <= sharedMemoryLimit>
struct LargestThatFits : First {};
template <typename First, typename Second>
struct LargestThatFits<First, Second, false> : Second {};

// - Kernel (the last argument, a type with commas): threads, sharedBytes, queryTile and keyTile.
#define FATTN_ENTRY(name, method, blocksPerProcessor, ...)                                                   \
    static_assert(__VA_ARGS__::sharedBytes <= sharedMemoryLimit, #name);                                     \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__::threads, blocksPerProcessor)                   \
        name(const __grid_constant__ AttentionLaunch launch) {                                               \
        __VA_ARGS__::method(launch);                                                                         \
    }                                                                                                        \
    extern "C" __device__ const TileKernelGeometry name##_geometry = {                                       \
        __VA_ARGS__::threads, __VA_ARGS__::sharedBytes, __VA_ARGS__::queryTile, __VA_ARGS__::keyTile};
