/* The ways in which a CPU computes, for tests of what holds of each of them. */
#ifndef VISATB_TESTS_CPU_PATHS_H
#define VISATB_TESTS_CPU_PATHS_H

#include "visatb.h"

#include <stdbool.h>

enum { CPU_PATHS = VISATB_CPU_AVX512_BF16 };

/* False, with a printed line the first time, for a path that this CPU or this build lacks: such a test is
 * skipped. test_cpu_paths sees to it that nothing else is. */
bool cpu_path_runs(visatb_cpu_path path);

/* for_each_cpu_path(path) { ... } over those that run. */
#define for_each_cpu_path(path)                                                                              \
    for (visatb_cpu_path path = VISATB_CPU_PORTABLE; (int)(path) <= CPU_PATHS; ++(path))                     \
        if (cpu_path_runs(path))

#endif
