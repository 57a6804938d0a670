/* Each path of the CPU for a vocabulary in slices on a GPU, where there is but one; in the place of
 * cpu_paths.c. */
#include "cpu_paths.h"
#include "on_gpu.h"

bool cpu_path_runs(visatb_cpu_path path) {
    return (int)path == ON_GPU_TWO_READ;
}

const char *on_gpu_path_name(visatb_cpu_path path) {
    (void)path;
    return "slices";
}
