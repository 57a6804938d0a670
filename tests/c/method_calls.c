#include "method_calls.h"
#include "expect.h"

#include <string.h>

visatb_method *make(visatb_method_kind kind, size_t tasks) {
    visatb_method_options options = VISATB_METHOD_OPTIONS_INIT;
    options.kind = kind;
    options.tasks = tasks;
    options.seed = 7;
    options.window = 2;
    options.base_first = 1;
    options.base_end = 3;
    visatb_method *method = NULL;
    expect_ok(visatb_method_create(&options, &method));
    return method;
}

void tell(visatb_method *method, size_t tasks, unsigned step) {
    double nll[MOST_TASKS];
    int64_t tokens[MOST_TASKS];
    for (unsigned task = 0; task < tasks; task++) {
        tokens[task] = (step * 5 + task * 3) % 4;
        nll[task] = tokens[task] > 0 ? 1.0 + ((step * 7 + task * 11) % 13) : 0.0;
    }
    expect_ok(visatb_method_update(method, nll, tokens));
}

size_t state_of(const visatb_method *method, unsigned char state[MOST_BYTES]) {
    size_t size = 0;
    expect_ok(visatb_method_state_size(method, &size));
    assert_true(size <= MOST_BYTES);
    memset(state, 0xa5, MOST_BYTES);
    expect_ok(visatb_method_save(method, state, size));
    return size;
}

void put_checksum(unsigned char *bytes, size_t size) {
    uint64_t sum = 0xcbf29ce484222325U;
    for (size_t k = 0; k < size - 8; k++)
        sum = (sum ^ bytes[k]) * 0x100000001b3U;
    for (int k = 0; k < 8; k++)
        bytes[size - 8 + (size_t)k] = (unsigned char)(sum >> (8 * k));
}
