#include "scores/file.h"
#include "common/error.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Score and weight files are small; a path that yields more than this is not one. */
#define LARGEST_FILE ((size_t)256 << 20)

static visatb_status io_error(const char *path, const char *what, int code) {
    return error_set(VISATB_ERROR_IO, "%s: %s: %s", path, what, strerror(code));
}

/* Reads in growing steps, since a pipe does not know its size. */
static visatb_status read_stream(const char *function, const char *path, FILE *stream, char **text,
                                 size_t *length) {
    size_t capacity = (size_t)1 << 16, used = 0;
    char *buffer = malloc(capacity);
    while (buffer) {
        used += fread(buffer + used, 1, capacity - 1 - used, stream);
        if (ferror(stream)) {
            free(buffer);
            return io_error(path, "cannot be read", errno);
        }
        if (used < capacity - 1)
            break;
        if (capacity > LARGEST_FILE) {
            free(buffer);
            return error_set(VISATB_ERROR_IO, "%s: larger than %zu MiB", path, LARGEST_FILE >> 20);
        }
        char *const larger = realloc(buffer, capacity * 2);
        if (!larger)
            free(buffer);
        buffer = larger;
        capacity *= 2;
    }
    if (!buffer)
        return error_out_of_memory(function);
    buffer[used] = '\0';
    *text = buffer;
    *length = used;
    return VISATB_OK;
}

visatb_status file_read(const char *function, const char *path, char **text, size_t *length) {
    if (!path)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: path is NULL; expected a file's path", function);
    FILE *const stream = fopen(path, "rb");
    if (!stream)
        return io_error(path, "cannot be opened", errno);
    const visatb_status status = read_stream(function, path, stream, text, length);
    (void)fclose(stream);
    return status;
}

visatb_status file_write(const char *function, const char *path, const char *text, size_t length) {
    if (!path)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: path is NULL; expected a file's path", function);
    static const char suffix[] = ".part";
    char *const part = malloc(strlen(path) + sizeof suffix);
    if (!part)
        return error_out_of_memory(function);
    memcpy(part, path, strlen(path));
    memcpy(part + strlen(path), suffix, sizeof suffix);

    visatb_status status = VISATB_OK;
    FILE *const stream = fopen(part, "wb");
    if (!stream) {
        status = io_error(path, "cannot be written", errno);
    } else {
        bool written = fwrite(text, 1, length, stream) == length;
        written = fclose(stream) == 0 && written;
        if (!written || rename(part, path) != 0) {
            status = io_error(path, "cannot be written", errno);
            (void)remove(part);
        }
    }
    free(part);
    return status;
}
