/* The GPU's memory as the tests need it, so that the same tests run on a GPU (device_memory_cuda.c) and
 * without one, on kernels that were compiled for the CPU (device_memory_fibres.c). Whatever fails ends the
 * program. */
#ifndef VISATB_TESTS_DEVICE_MEMORY_H
#define VISATB_TESTS_DEVICE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* Else the program ends with DEVICE_ABSENT, which is no failure. */
bool device_is_there(void);

enum { DEVICE_ABSENT = 77 };

/* Memory of the current device, on a multiple of 256, its bytes 0xff: NaN in every type. */
void *device_alloc(size_t bytes);
void device_free(void *memory);

void device_copy_in(void *device, const void *host, size_t bytes);
void device_fill(void *device, int byte, size_t bytes);

/* After all work that was put into streams. */
void device_copy_out(void *host, const void *device, size_t bytes);

/* Memory of the host that the device cannot reach. */
void *device_alloc_on_host(size_t bytes);
void device_free_all_on_host(void);

/* Whether products of matrices are exact before they are rounded. */
bool device_is_exact(void);

/* What only a pretended device can do: false on others. The n-th launch from now fails, 0: none; the memory
 * is of another device until all on the host is freed; threads take turns in another order. */
bool device_fail_launch(size_t n);
bool device_pretend_other(const void *start, size_t bytes);
bool device_shuffle(unsigned seed);

#endif
