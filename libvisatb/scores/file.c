#include "scores/file.h"
#include "common/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
        if (used > LARGEST_FILE) {
            free(buffer);
            return error_set(VISATB_ERROR_IO, "%s: larger than %zu MiB", path, LARGEST_FILE >> 20);
        }
        if (used < capacity - 1)
            break;
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

/* Writes everything and closes; false with errno set where that fails. */
static bool write_and_close(int descriptor, const char *text, size_t length) {
    FILE *const stream = fdopen(descriptor, "wb");
    if (!stream) {
        (void)close(descriptor);
        return false;
    }
    const bool written = fwrite(text, 1, length, stream) == length && fflush(stream) == 0;
    /* On the disk before it takes the old file's name, or a power cut may leave neither. Pipes cannot, nor
     * need they. */
    const bool kept = written && (fsync(fileno(stream)) == 0 || errno == EINVAL || errno == EROFS);
    const int reason = errno;
    const bool closed = fclose(stream) == 0;
    if (!kept)
        errno = reason;
    return kept && closed;
}

/* A new file beside `target` that no other process or thread has; its name goes into `part`. */
static int open_beside(const char *target, char *part, size_t size) {
    for (int attempt = 0; attempt < 1000; attempt++) {
        (void)snprintf(part, size, "%s.%ld-%d.part", target, (long)getpid(), attempt);
        const int descriptor = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor >= 0 || errno != EEXIST)
            return descriptor;
    }
    return -1;
}

/* Whole or not at all: written beside the target, then renamed. */
static bool replace_file(const char *target, char *part, size_t size, const char *text, size_t length) {
    const int descriptor = open_beside(target, part, size);
    if (descriptor < 0)
        return false;
    if (write_and_close(descriptor, text, length) && rename(part, target) == 0)
        return true;
    const int reason = errno;
    (void)remove(part);
    errno = reason;
    return false;
}

visatb_status file_write(const char *function, const char *path, const char *text, size_t length) {
    if (!path)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: path is NULL; expected a file's path", function);
    struct stat found;
    const bool exists = stat(path, &found) == 0;
    if (exists && !S_ISREG(found.st_mode)) {
        /* A pipe or a device is written to, not replaced. */
        const int descriptor = open(path, O_WRONLY | O_CLOEXEC);
        const bool written = descriptor >= 0 && write_and_close(descriptor, text, length);
        return written ? VISATB_OK : io_error(path, "cannot be written", errno);
    }

    /* The file behind a link is replaced, not the link. */
    char *const behind = exists ? realpath(path, NULL) : NULL;
    const char *const target = behind ? behind : path;
    const size_t size = strlen(target) + 64;
    char *const part = malloc(size);
    visatb_status status = VISATB_OK;
    if (!part)
        status = error_out_of_memory(function);
    else if (!replace_file(target, part, size, text, length))
        status = io_error(path, "cannot be written", errno);
    free(part);
    free(behind);
    return status;
}
