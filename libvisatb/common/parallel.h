/* Work that falls into independent items, shared out among threads that live for one call. No pool stands by
 * between calls, so none of it competes with a pool that the caller has. */
#ifndef VISATB_COMMON_PARALLEL_H
#define VISATB_COMMON_PARALLEL_H

#include <stdint.h>

/* Does items [first, end). `worker` is below the number of threads, and no two threads have the same. */
typedef void parallel_work(void *context, int64_t first, int64_t end, int worker);

/* How many threads a call may use that was given `threads`: 0 means one for every CPU that the process may
 * run on. At least 1. */
int parallel_threads(int32_t threads);

/* Does items [0, count) in pieces of `step`, each of them once, in any order, on at most `threads` threads,
 * of which the caller is one. Where a thread cannot be had, the others do its work. */
void parallel_for(int threads, int64_t count, int64_t step, parallel_work *work, void *context);

#endif
