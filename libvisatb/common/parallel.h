/* Work that falls into independent items, shared out among threads: those of the caller's pool, or threads
 * that live for one call. No pool of ours stands by between calls, to compete with the caller's. */
#ifndef VISATB_COMMON_PARALLEL_H
#define VISATB_COMMON_PARALLEL_H

#include "visatb.h"

/* Does items [first, end). `worker` is below the number of threads, and no two threads have the same. */
typedef void parallel_work(void *context, int64_t first, int64_t end, int worker);

/* How many threads a call may use that was given `threads`: 0 means one for every CPU that the process may
 * run on. At least 1. */
int parallel_threads(int32_t threads);

/* Does items [0, count) in pieces of `step`, each of them once, in any order, on at most `threads` threads,
 * of which the caller is one: on those of the team, or of our own where it is NULL. Where a thread cannot be
 * had, the others do its work. */
void parallel_for(int threads, visatb_team *team, int64_t count, int64_t step, parallel_work *work,
                  void *context);

#endif
