#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With kernels that were compiled for the CPU (tests/fibres), the host's memory stands for a GPU's. */
#ifdef EVERY_KERNEL_ON_FIBRES
const visatb_device memory_device = VISATB_DEVICE_CUDA;
#else
const visatb_device memory_device = VISATB_DEVICE_CPU;
#endif
bool memory_is_poisoned = true;

enum { ALIGNMENT = 256 }; /* as cudaMalloc has it */

void *memory_take(size_t bytes) {
    void *memory = aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 1) * ALIGNMENT);
    if (memory == NULL) {
        (void)fprintf(stderr, "every_kernel: no memory\n");
        exit(1);
    }
    memset(memory, memory_is_poisoned ? 0xFF : 0, bytes + 1);
    return memory;
}

void memory_give_back(void *memory) {
    free(memory);
}

void memory_put(void *to, const void *host, size_t bytes) {
    memcpy(to, host, bytes);
}

void memory_get(void *host, const void *from, size_t bytes) {
    memcpy(host, from, bytes);
}
