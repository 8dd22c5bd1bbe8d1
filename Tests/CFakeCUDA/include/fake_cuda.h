// A CUDA driver for tests: it keeps its "device" memory in host memory, does everything at once, computes
// nothing, and remembers what it was asked for.
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include "cuda_driver.h"

// What is there at present.
typedef struct {
    long memory, pinned, streams, events, modules, pools, contexts;
} FakeCUDALive;

// Every function of the driver, with two devices behind them.
void fake_cuda_functions(CUDADriverFunctions *functions);

// Forgets the calls so far and fails nothing.
void fake_cuda_reset(void);

FakeCUDALive fake_cuda_live(void);

// Lets the so-and-so-many-th call from now of that name fail with an error, 1 being the next; 0 lets none
// fail.
void fake_cuda_fail(const char *name, long number, int error);

// How many such calls are still to come before the failure; 0 if it has come, or none was asked for.
long fake_cuda_is_waiting_to_fail(void);

// The calls since the last reset that queue, wait, take or give back something, oldest first, such as
// "cuMemFreeAsync s1"; null beyond the last. Streams are numbered in the order of their creation since the
// reset.
const char *fake_cuda_call(long index);

#endif
