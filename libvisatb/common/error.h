/* The thread's last error: the one piece of state that the library keeps. */
#ifndef VISATB_COMMON_ERROR_H
#define VISATB_COMMON_ERROR_H

#include "visatb.h"

/* Records the message; its value is the status, so that a caller can write `return error_set(...)`. A macro,
 * so that compilers and analysers see in every file that this is never VISATB_OK. */
#define error_set(status, ...) (error_record(__VA_ARGS__), (visatb_status)(status))

/* The same for something wrong in a JSON file: the message becomes "file: path: ...". */
#define error_set_at(file, path, ...)                                                                        \
    (error_record_at(file, path, __VA_ARGS__), (visatb_status)VISATB_ERROR_DATA)

#define error_out_of_memory(function) error_set(VISATB_ERROR_MEMORY, "%s: out of memory", function)

void error_record(const char *format, ...) __attribute__((format(printf, 1, 2)));
void error_record_at(const char *file, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
