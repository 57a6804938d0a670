/* The CUDA runtime of the pretended GPU. */
#include "cuda/runtime.h"

#include "common/error.h"
#include "fibres_control.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES = 2, MULTIPROCESSORS = 132, MOST_RANGES = 64, FAILS_WHEN_TOLD = 999 };

typedef struct memory_range {
    uintptr_t start;
    size_t bytes;
    cuda_place place;
    int ordinal;
} memory_range;

static struct fibres_settings settings = {
    .order = FIBRES_FORWARD,
    .capability = 90,
    .built_for = 90,
    .shared_of_block = 232448,
    .shared_of_multiprocessor = 233472,
};
static memory_range ranges[MOST_RANGES];
static int range_count;
static _Thread_local int current_device;
static atomic_size_t launches;
static atomic_size_t failing; /* the number, in `launches`, of the one to fail */

void fibres_set_order(int order, unsigned seed) {
    settings.order = order;
    settings.seed = seed;
}

void fibres_set_device(int capability, size_t shared_of_block, size_t shared_of_multiprocessor) {
    settings.capability = capability;
    settings.shared_of_block = shared_of_block;
    settings.shared_of_multiprocessor = shared_of_multiprocessor;
}

void fibres_set_build(int capability) {
    settings.built_for = capability;
}

static void add_range(const void *start, size_t bytes, cuda_place place, int ordinal) {
    if (range_count == MOST_RANGES)
        abort();
    ranges[range_count] =
        (memory_range){.start = (uintptr_t)start, .bytes = bytes, .place = place, .ordinal = ordinal};
    ++range_count;
}

void fibres_host_memory(const void *start, size_t bytes) {
    add_range(start, bytes, CUDA_PLACE_HOST, -1);
}

void fibres_pinned_memory(const void *start, size_t bytes) {
    add_range(start, bytes, CUDA_PLACE_PINNED, -1);
}

void fibres_memory_of_device(const void *start, size_t bytes, int ordinal) {
    add_range(start, bytes, CUDA_PLACE_DEVICE, ordinal);
}

void fibres_forget_memory(void) {
    range_count = 0;
}

size_t fibres_launches(void) {
    return atomic_load(&launches);
}

void fibres_fail_launch(size_t n) {
    atomic_store(&failing, n > 0 ? atomic_load(&launches) + n : 0);
}

const struct fibres_settings *fibres_current_settings(void) {
    return &settings;
}

int fibres_count_launch(void) {
    const size_t number = atomic_fetch_add(&launches, 1) + 1;
    return number == atomic_load(&failing) ? FAILS_WHEN_TOLD : 0;
}

/* --- what runtime.h promises -----------------------------------------------------------------------------
 */

visatb_status runtime_device(const char *function, cuda_device *device) {
    if (settings.capability == 0)
        return error_set(VISATB_ERROR_UNSUPPORTED, "%s: there is no GPU", function);
    if (settings.capability < 80)
        return error_set(VISATB_ERROR_UNSUPPORTED, "%s: the GPU is of compute capability %d.%d, before 8.0",
                         function, settings.capability / 10, settings.capability % 10);
    *device = (cuda_device){.ordinal = current_device,
                            .capability = settings.capability,
                            .multiprocessors = MULTIPROCESSORS,
                            .shared_of_block = settings.shared_of_block,
                            .shared_of_multiprocessor = settings.shared_of_multiprocessor};
    return VISATB_OK;
}

visatb_status runtime_place(const char *function, const void *pointer, cuda_place *place, int *ordinal) {
    if (settings.capability == 0)
        return error_set(VISATB_ERROR_UNSUPPORTED, "%s: there is no GPU", function);
    *place = pointer == NULL ? CUDA_PLACE_HOST : CUDA_PLACE_DEVICE;
    *ordinal = pointer == NULL ? -1 : 0;
    for (int i = 0; i < range_count; ++i)
        if ((uintptr_t)pointer - ranges[i].start < ranges[i].bytes) {
            *place = ranges[i].place;
            *ordinal = ranges[i].ordinal;
        }
    return VISATB_OK;
}

visatb_status runtime_use_device(const char *function, int ordinal, int *before) {
    if (ordinal < 0 || ordinal >= DEVICES)
        return error_set(VISATB_ERROR_DEVICE, "%s: there is no device %d", function, ordinal);
    *before = current_device;
    current_device = ordinal;
    return VISATB_OK;
}

int runtime_clear(void *memory, size_t bytes, void *stream) {
    (void)stream;
    const int error = fibres_count_launch();
    if (error == 0)
        memset(memory, 0, bytes);
    return error;
}

visatb_status runtime_check(const char *function, const char *what, int error) {
    if (error == 0)
        return VISATB_OK;
    return error_set(VISATB_ERROR_DEVICE, "%s: %s: error %d", function, what, error);
}

const char *runtime_description(void) {
    return "fibres";
}
