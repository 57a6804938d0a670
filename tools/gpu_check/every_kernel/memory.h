/* Where the arrays of a call are: on a GPU (memory_cuda.c), or on the host, where this program itself can be
 * tried (memory_host.c). A failure ends the program, which nothing could follow. */
#ifndef EVERY_KERNEL_MEMORY_H
#define EVERY_KERNEL_MEMORY_H

#include "visatb.h"

#include <stdbool.h>

extern const visatb_device memory_device;

/* Whether new memory is filled with bytes that are NaN in every type, so that what nobody wrote shows. Off
 * for a tool that looks for that itself. */
extern bool memory_is_poisoned;

void *memory_take(size_t bytes);

/* Rows behind `before` bytes. What stands before them and in the gaps between them is nobody's to write, and
 * set here: so a tool that looks for what was never written speaks of the rows alone. */
typedef struct memory_rows {
    size_t before, count, bytes, gap;
} memory_rows;
void *memory_take_rows(memory_rows wanted);

void memory_give_back(void *memory);
void memory_put(void *to, const void *host, size_t bytes);
/* After all that was begun is done. */
void memory_get(void *host, const void *from, size_t bytes);

#endif
