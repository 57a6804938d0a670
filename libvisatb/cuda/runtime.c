/* The CUDA runtime, which is linked statically and opens the driver when it is first asked something; so the
 * library can be loaded where there is none. */
#include "cuda/runtime.h"

#include "common/error.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>

enum { LEAST_CAPABILITY = 80, PER_MAJOR = 10 };

static int thousands(int version) {
    return version / 1000;
}

static int tens(int version) {
    return version % 1000 / 10;
}

/* The runtime remembers an error until somebody takes it, and others would take it for theirs. */
static visatb_status device_error(const char *function, const char *what, cudaError_t error) {
    (void)cudaGetLastError();
    return error_set(VISATB_ERROR_DEVICE, "%s: %s failed: %s (%s)", function, what, cudaGetErrorString(error),
                     cudaGetErrorName(error));
}

enum { MOST_OF_FAULT = 256 };

/* Why there is no GPU to work with (UNSUPPORTED), or how one failed (DEVICE). */
static visatb_status explain(cudaError_t error, char *fault) {
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaGetLastError();
    (void)snprintf(fault, MOST_OF_FAULT, "the GPU failed: %s (%s)", cudaGetErrorString(error),
                   cudaGetErrorName(error));
    if (driver == 0)
        (void)snprintf(fault, MOST_OF_FAULT, "no GPU: the NVIDIA driver is not installed");
    else if (error == cudaErrorInsufficientDriver)
        (void)snprintf(
            fault, MOST_OF_FAULT,
            "the NVIDIA driver is too old: it supports CUDA %d.%d, and this library was built with "
            "CUDA %d.%d",
            thousands(driver), tens(driver), thousands(CUDART_VERSION), tens(CUDART_VERSION));
    else if (error == cudaErrorNoDevice || error == cudaErrorStubLibrary ||
             error == cudaErrorSystemDriverMismatch || error == cudaErrorCompatNotSupportedOnDevice ||
             error == cudaErrorSystemNotReady)
        (void)snprintf(fault, MOST_OF_FAULT, "no GPU: %s", cudaGetErrorString(error));
    else
        return VISATB_ERROR_DEVICE;
    return VISATB_ERROR_UNSUPPORTED;
}

/* OK, or with the reason UNSUPPORTED where the current device cannot be used, DEVICE where it failed. */
static visatb_status find_device(cuda_device *device, char *fault) {
    int ordinal = 0;
    int values[5] = {0};
    static const enum cudaDeviceAttr attributes[] = {
        cudaDevAttrComputeCapabilityMajor,
        cudaDevAttrComputeCapabilityMinor,
        cudaDevAttrMultiProcessorCount,
        cudaDevAttrMaxSharedMemoryPerBlockOptin,
        cudaDevAttrMaxSharedMemoryPerMultiprocessor,
    };
    cudaError_t error = cudaGetDevice(&ordinal);
    for (size_t i = 0; error == cudaSuccess && i < sizeof attributes / sizeof *attributes; ++i)
        error = cudaDeviceGetAttribute(&values[i], attributes[i], ordinal);
    if (error != cudaSuccess)
        return explain(error, fault);
    *device = (cuda_device){
        .ordinal = ordinal,
        .capability = values[0] * PER_MAJOR + values[1],
        .multiprocessors = values[2],
        .shared_of_block = (size_t)values[3],
        .shared_of_multiprocessor = (size_t)values[4],
    };
    if (device->capability >= LEAST_CAPABILITY)
        return VISATB_OK;
    (void)snprintf(fault, MOST_OF_FAULT, "device %d has compute capability %d.%d; expected 8.0 or higher",
                   ordinal, values[0], values[1]);
    return VISATB_ERROR_UNSUPPORTED;
}

visatb_status runtime_device(const char *function, cuda_device *device) {
    char fault[MOST_OF_FAULT];
    const visatb_status status = find_device(device, fault);
    if (status == VISATB_OK)
        return VISATB_OK;
    return error_set(status, "%s: %s", function, fault);
}

visatb_status runtime_place(const char *function, const void *pointer, cuda_place *place, int *ordinal) {
    struct cudaPointerAttributes attributes = {.type = cudaMemoryTypeUnregistered};
    char fault[MOST_OF_FAULT];
    const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
    if (error != cudaSuccess) {
        const visatb_status status = explain(error, fault);
        return error_set(status, "%s: %s", function, fault);
    }
    *ordinal = attributes.device;
    *place = attributes.type == cudaMemoryTypeUnregistered ? CUDA_PLACE_HOST
             : attributes.type == cudaMemoryTypeHost       ? CUDA_PLACE_PINNED
                                                           : CUDA_PLACE_DEVICE;
    return VISATB_OK;
}

visatb_status runtime_use_device(const char *function, int ordinal, int *before) {
    cudaError_t error = cudaGetDevice(before);
    if (error == cudaSuccess && *before != ordinal)
        error = cudaSetDevice(ordinal);
    return error == cudaSuccess ? VISATB_OK : device_error(function, "cudaSetDevice", error);
}

int runtime_clear(void *memory, size_t bytes, void *stream) {
    return (int)cudaMemsetAsync(memory, 0, bytes, (cudaStream_t)stream);
}

visatb_status runtime_check(const char *function, const char *what, int error) {
    if (error == cudaSuccess)
        return VISATB_OK;
    return device_error(function, what, (cudaError_t)error);
}

/* --- for people ---------------------------------------------------------------------------------------- */

static char description[640];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void describe(void) {
    cuda_device device;
    int driver = 0;
    struct cudaDeviceProp properties;
    char built[128];
    char fault[MOST_OF_FAULT];
    (void)snprintf(built, sizeof built, "%d.%d for " VISATB_BUILD_CUDA_ARCHITECTURES,
                   thousands(CUDART_VERSION), tens(CUDART_VERSION));
    if (find_device(&device, fault) != VISATB_OK) {
        (void)snprintf(description, sizeof description, "%s; cannot be used here: %s", built, fault);
        return;
    }
    (void)cudaDriverGetVersion(&driver);
    const bool known = cudaGetDeviceProperties(&properties, device.ordinal) == cudaSuccess;
    (void)snprintf(description, sizeof description, "%s; driver %d.%d, %s, compute capability %d.%d", built,
                   thousands(driver), tens(driver), known ? properties.name : "a GPU without a name",
                   device.capability / PER_MAJOR, device.capability % PER_MAJOR);
}

const char *runtime_description(void) {
    (void)pthread_once(&once, describe);
    return description;
}
