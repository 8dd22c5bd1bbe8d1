#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stdbool.h>

/// Whether allocations can be counted here (on Linux with glibc).
bool allocation_counter_works(void);

/// Starts to count from 0.
void allocation_counter_start(void);

/// Bytes asked for by any thread since the start, freed or not.
long allocation_counter_bytes(void);

#endif
