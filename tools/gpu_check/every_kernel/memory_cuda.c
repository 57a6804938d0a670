#include "memory.h"

#include <stdio.h>
#include <stdlib.h>

/* As cuda_runtime_api.h has them; enums are ints. Without that header the program is read and checked where
 * there is no CUDA. */
int cudaMalloc(void **memory, size_t bytes);
int cudaFree(void *memory);
int cudaMemset(void *memory, int byte, size_t bytes);
int cudaMemcpy(void *to, const void *from, size_t bytes, int kind);
int cudaDeviceSynchronize(void);
const char *cudaGetErrorString(int error);

enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2 };

const visatb_device memory_device = VISATB_DEVICE_CUDA;
bool memory_is_poisoned = true;

static void check(const char *what, int error) {
    if (error == 0)
        return;
    (void)printf("wrong: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

void *memory_take(size_t bytes) {
    void *memory = NULL;
    check("cudaMalloc", cudaMalloc(&memory, bytes + 1));
    if (memory_is_poisoned)
        check("cudaMemset", cudaMemset(memory, 0xFF, bytes + 1));
    return memory;
}

void memory_give_back(void *memory) {
    check("cudaFree", cudaFree(memory));
}

void memory_put(void *to, const void *host, size_t bytes) {
    check("cudaMemcpy to the GPU", cudaMemcpy(to, host, bytes, HOST_TO_DEVICE));
}

void memory_get(void *host, const void *from, size_t bytes) {
    check("the kernels", cudaDeviceSynchronize());
    check("cudaMemcpy from the GPU", cudaMemcpy(host, from, bytes, DEVICE_TO_HOST));
}
