/* The loss on a GPU for tests that were written for the CPU: a call on the host's memory, carried out on
 * copies of it in the GPU's. Programs that are compiled with visatb_vitw_loss=on_gpu_vitw_loss make every one
 * of their calls so, and what they promise of each path of the CPU they then promise of each of the GPU. */
#ifndef VISATB_TESTS_ON_GPU_H
#define VISATB_TESTS_ON_GPU_H

#include "visatb.h"

/* Which path of the GPU takes the place of which of the CPU (on_gpu_paths.c). fp64 stays where it is. */
typedef enum on_gpu_path {
    ON_GPU_ONE_READ = VISATB_CPU_AVX2,
    ON_GPU_TWO_READ = VISATB_CPU_AVX512,
    ON_GPU_CLUSTERS = VISATB_CPU_AVX512_BF16, /* one read, by as many blocks as there can be */
} on_gpu_path;

const char *on_gpu_path_name(visatb_cpu_path path);

visatb_status on_gpu_vitw_loss(const visatb_vitw_loss_args *args);

/* A call whose arrays are the host's, on the path that args->cuda_path names. */
visatb_status on_gpu_run(const visatb_vitw_loss_args *args);

#endif
