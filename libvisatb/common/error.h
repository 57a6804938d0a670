/* The thread's last error: the one piece of state that the library keeps. */
#ifndef VISATB_COMMON_ERROR_H
#define VISATB_COMMON_ERROR_H

#include "visatb.h"

/* Records the message and returns the status, so that a caller can write `return error_set(...)`. */
visatb_status error_set(visatb_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for something wrong in a JSON file, VISATB_ERROR_DATA: the message becomes "file: path: ...". */
void error_set_at(const char *file, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

visatb_status error_out_of_memory(const char *function);

#endif
