/* What the host's side asks of the CUDA runtime, and nothing else of it. In runtime.c by the runtime; the
 * tests without a GPU have another (tests/fibres/runtime.c). */
#ifndef VISATB_CUDA_RUNTIME_H
#define VISATB_CUDA_RUNTIME_H

#include "visatb.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_device {
    int ordinal;
    int capability; /* 80 for 8.0 */
    int multiprocessors;
    size_t shared_of_block;          /* bytes that a block may have */
    size_t shared_of_multiprocessor; /* bytes that its blocks share, and of which each takes 1 KiB more */
} cuda_device;

/* Where the memory at a pointer is. */
typedef enum cuda_place {
    CUDA_PLACE_HOST,   /* the GPU cannot reach it */
    CUDA_PLACE_PINNED, /* the host's, and both can */
    CUDA_PLACE_DEVICE, /* of the device that is told, or managed */
} cuda_place;

/* The current device. `function` begins the messages.
 * Errors: UNSUPPORTED (no GPU, no driver, one too old for this build, a GPU before 8.0), DEVICE. */
visatb_status runtime_device(const char *function, cuda_device *device);

/* Where `pointer` points to, and to which device's memory. Errors: as runtime_device, but for old GPUs. */
visatb_status runtime_place(const char *function, const void *pointer, cuda_place *place, int *ordinal);

/* Makes a device current and tells which one was. */
visatb_status runtime_use_device(const char *function, int ordinal, int *before);

/* Zeros, in the order of the stream; a cudaError_t, for runtime_check. */
int runtime_clear(void *memory, size_t bytes, void *stream);

/* OK for 0; else the error of a launch, in words. */
visatb_status runtime_check(const char *function, const char *what, int error);

/* "13.0 for 80-real 90-real; driver 13.0, NVIDIA H200, ..." or why not; a static string. */
const char *runtime_description(void);

#ifdef __cplusplus
}
#endif

#endif
