#include "memory.h"

#include "problem.h"

#include <stdlib.h>
#include <string.h>

void *memory_take_rows(memory_rows wanted) {
    const size_t stride = wanted.bytes + wanted.gap;
    const size_t most = wanted.before > wanted.gap ? wanted.before : wanted.gap;
    unsigned char *const memory = memory_take(wanted.before + wanted.count * stride);
    void *set = host_take(1, most + 1);
    memset(set, 0xFF, most);
    memory_put(memory, set, wanted.before);
    for (size_t row = 0; wanted.gap > 0 && row < wanted.count; ++row)
        memory_put(memory + wanted.before + row * stride + wanted.bytes, set, wanted.gap);
    free(set);
    return memory;
}
