#include "device_memory.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

enum { UNWRITTEN = 0xff, MOST_ON_HOST = 32 };

static void *on_host[MOST_ON_HOST];
static size_t count_on_host;

static void check(cudaError_t error) {
    if (error == cudaSuccess)
        return;
    (void)fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
    abort();
}

bool device_is_there(void) {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

void *device_alloc(size_t bytes) {
    void *memory = NULL;
    check(cudaMalloc(&memory, bytes > 0 ? bytes : 1));
    device_fill(memory, UNWRITTEN, bytes);
    return memory;
}

void device_free(void *memory) {
    check(cudaFree(memory));
}

void device_copy_in(void *device, const void *host, size_t bytes) {
    check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
}

void device_fill(void *device, int byte, size_t bytes) {
    check(cudaMemset(device, byte, bytes));
}

void device_copy_out(void *host, const void *device, size_t bytes) {
    check(cudaDeviceSynchronize());
    check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
}

void *device_alloc_on_host(size_t bytes) {
    if (count_on_host == MOST_ON_HOST)
        abort();
    void *memory = malloc(bytes);
    if (memory == NULL)
        abort();
    on_host[count_on_host] = memory;
    ++count_on_host;
    return memory;
}

void device_free_all_on_host(void) {
    while (count_on_host > 0) {
        --count_on_host;
        free(on_host[count_on_host]);
    }
}

bool device_is_exact(void) {
    return false;
}

bool device_fail_launch(size_t n) {
    (void)n;
    return false;
}

bool device_pretend_other(const void *start, size_t bytes) {
    (void)start;
    (void)bytes;
    return false;
}

bool device_shuffle(unsigned seed) {
    (void)seed;
    return false;
}
