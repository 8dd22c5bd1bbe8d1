#ifndef PROCESSOR_H
#define PROCESSOR_H

#include <stdbool.h>

/// Whether the processor and the operating system run AVX2 and FMA code.
bool processor_runs_avx2(void);

/// Whether they run x86-64-v4 code: AVX-512 F, BW, CD, DQ and VL.
bool processor_runs_avx512(void);

/// Whether they run that and AVX512_BF16, the dot product of pairs of BF16.
bool processor_runs_avx512_bf16(void);

/// Bytes of the data cache of a level from 1 to 3, or 0 where the system does not say.
long processor_cache_bytes(int level);

/// Processors that this process may run on.
int processor_count(void);

/// Tells the processor that this thread waits in a loop.
static inline void processor_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
