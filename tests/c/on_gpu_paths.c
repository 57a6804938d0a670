/* Each path of the CPU, taken by one of the GPU; in the place of cpu_paths.c. */
#include "on_gpu.h"

#include "cpu_paths.h"
#include "fibres_control.h"

/* The least shared memory with which a row of so many elements is still read once: by as many blocks as may
 * share it. */
static size_t shared_for_clusters(const visatb_vitw_loss_args *args) {
    enum { STATE = 640, GRANULE = 16, MOST_BLOCKS = 8, EDGES = 2 * (GRANULE - 1) };
    const size_t element = args->dtype == VISATB_DTYPE_FLOAT32 ? 4 : 2;
    const size_t granules = ((size_t)args->vocab * element + EDGES) / GRANULE;
    return STATE + (granules + MOST_BLOCKS - 1) / MOST_BLOCKS * GRANULE;
}

/* What a GPU keeps of a multiprocessor's for each block. */
enum { RESERVED = 1024 };

bool cpu_path_runs(visatb_cpu_path path) {
    return path != VISATB_CPU_PORTABLE;
}

const char *on_gpu_path_name(visatb_cpu_path path) {
    switch ((int)path) {
    case ON_GPU_ONE_READ: return "one read";
    case ON_GPU_TWO_READ: return "two reads";
    case ON_GPU_CLUSTERS: return "one read by clusters";
    default: return visatb_cpu_path_name(path);
    }
}

visatb_status on_gpu_vitw_loss(const visatb_vitw_loss_args *args) {
    visatb_vitw_loss_args there = *args;
    if (args->dtype == VISATB_DTYPE_FLOAT64)
        return visatb_vitw_loss(args);
    there.cpu_path = VISATB_CPU_AUTO;
    there.cuda_path = (int)args->cpu_path == ON_GPU_TWO_READ ? VISATB_CUDA_TWO_READ : VISATB_CUDA_ONE_READ;
    if ((int)args->cpu_path == ON_GPU_CLUSTERS)
        fibres_set_device(90, shared_for_clusters(args), shared_for_clusters(args) + RESERVED);
    const visatb_status status = on_gpu_run(&there);
    fibres_set_device(90, 232448, 233472);
    return status;
}
