#include "common/error.h"
#include "common/text.h"

#include <stdarg.h>
#include <stdio.h>

/* Long enough for a sentence around a few names; longer ones are cut, never overrun. */
static _Thread_local char last_message[2048];
static _Thread_local char last_path[1024];

void error_record(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(last_message, sizeof last_message, format, arguments);
    va_end(arguments);
    text_end_whole(last_message);
    last_path[0] = '\0';
}

void error_record_at(const char *file, const char *path, const char *format, ...) {
    const int prefix = path[0] != '\0' ? snprintf(last_message, sizeof last_message, "%s: %s: ", file, path)
                                       : snprintf(last_message, sizeof last_message, "%s: ", file);
    const size_t used = prefix < 0 ? 0 : (size_t)prefix;
    if (used < sizeof last_message) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(last_message + used, sizeof last_message - used, format, arguments);
        va_end(arguments);
    }
    text_end_whole(last_message);
    (void)snprintf(last_path, sizeof last_path, "%s", path);
    text_end_whole(last_path);
}

const char *visatb_last_error(void) {
    return last_message;
}

const char *visatb_last_error_path(void) {
    return last_path;
}

const char *visatb_status_string(visatb_status status) {
    switch (status) {
    case VISATB_OK: return "ok";
    case VISATB_ERROR_ARGUMENT: return "bad argument";
    case VISATB_ERROR_DATA: return "bad data";
    case VISATB_ERROR_MEMORY: return "out of memory";
    case VISATB_ERROR_IO: return "input or output failed";
    case VISATB_ERROR_UNSUPPORTED: return "not supported";
    case VISATB_ERROR_DEVICE: return "GPU failure";
    }
    return "unknown status";
}
