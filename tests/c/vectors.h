/* Known answers from tests/vectors, read through jansson directly and not through the library. */
#ifndef VISATB_TESTS_VECTORS_H
#define VISATB_TESTS_VECTORS_H

#include "expect.h"

#include <jansson.h>
#include <stdio.h>

static inline json_t *load_vector(const char *name) {
    char path[1024];
    json_error_t error;
    (void)snprintf(path, sizeof path, "%s/%s", VISATB_TEST_VECTORS, name);
    json_t *const root = json_load_file(path, 0, &error);
    if (!root)
        fail_msg("%s: %s", path, error.text);
    return root;
}

static inline double number_of(const json_t *object, const char *key) {
    const json_t *const value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("no number \"%s\"", key);
    return json_number_value(value);
}

#endif
