#include "device_memory.h"

#include "fibres_control.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256, UNWRITTEN = 0xff, MOST_ON_HOST = 32 };

static void *on_host[MOST_ON_HOST];
static size_t count_on_host;

bool device_is_there(void) {
    return true;
}

/* As much as was asked for and no more, so that ASan sees what lies beyond. */
void *device_alloc(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, bytes > 0 ? bytes : 1) != 0)
        abort();
    memset(memory, UNWRITTEN, bytes);
    return memory;
}

void device_free(void *memory) {
    free(memory);
}

void device_copy_in(void *device, const void *host, size_t bytes) {
    if (bytes > 0)
        memcpy(device, host, bytes);
}

void device_fill(void *device, int byte, size_t bytes) {
    if (bytes > 0)
        memset(device, byte, bytes);
}

void device_copy_out(void *host, const void *device, size_t bytes) {
    if (bytes > 0)
        memcpy(host, device, bytes);
}

void *device_alloc_on_host(size_t bytes) {
    if (count_on_host == MOST_ON_HOST)
        abort();
    void *memory = malloc(bytes);
    if (memory == NULL)
        abort();
    memset(memory, UNWRITTEN, bytes);
    fibres_host_memory(memory, bytes);
    on_host[count_on_host] = memory;
    ++count_on_host;
    return memory;
}

void device_free_all_on_host(void) {
    fibres_forget_memory();
    while (count_on_host > 0) {
        --count_on_host;
        free(on_host[count_on_host]);
    }
}

bool device_is_exact(void) {
    return true;
}

bool device_fail_launch(size_t n) {
    fibres_fail_launch(n);
    return true;
}

bool device_pretend_other(const void *start, size_t bytes) {
    fibres_memory_of_device(start, bytes, 1);
    return true;
}

bool device_shuffle(unsigned seed) {
    fibres_set_order(seed == 0 ? FIBRES_FORWARD : FIBRES_SHUFFLED, seed);
    return true;
}
