#ifdef __linux__
#define _GNU_SOURCE
#include <sched.h>
#endif
#include "processor.h"
#include <unistd.h>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

bool processor_runs_avx2(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
        && __builtin_cpu_supports("f16c");
#else
    return false;
#endif
}

bool processor_runs_avx512(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return processor_runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

bool processor_runs_avx512_bf16(void) {
#if defined(__x86_64__)
    return processor_runs_avx512() && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

long processor_cache_bytes(int level) {
#if defined(__APPLE__)
    const char *names[] = {"hw.l1dcachesize", "hw.l2cachesize", "hw.l3cachesize"};
    long long bytes = 0;
    size_t size = sizeof bytes;
    if (level < 1 || level > 3 || sysctlbyname(names[level - 1], &bytes, &size, 0, 0) != 0) return 0;
    return (long)bytes;
#elif defined(_SC_LEVEL1_DCACHE_SIZE)
    const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    if (level < 1 || level > 3) return 0;
    long bytes = sysconf(names[level - 1]);
    return bytes > 0 ? bytes : 0;
#else
    (void)level;
    return 0;
#endif
}

int processor_count(void) {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}
