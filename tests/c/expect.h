/* What every C test says of a failed call: the status, and the exact message. */
#ifndef VISATB_TESTS_EXPECT_H
#define VISATB_TESTS_EXPECT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "visatb.h"

#define expect_ok(call)                                                                                      \
    do {                                                                                                     \
        const visatb_status expect_status = (call);                                                          \
        if (expect_status != VISATB_OK)                                                                      \
            fail_msg("%s: %s", #call, visatb_last_error());                                                  \
    } while (0)

#define expect_failure(call, status, message)                                                                \
    do {                                                                                                     \
        assert_int_equal((call), (status));                                                                  \
        assert_string_equal(visatb_last_error(), (message));                                                 \
    } while (0)

/* Doubles within an absolute tolerance; the message shows both. */
#define expect_close(actual, expected, tolerance)                                                            \
    do {                                                                                                     \
        const double expect_a = (actual), expect_b = (expected);                                             \
        if (!(fabs(expect_a - expect_b) <= (tolerance)))                                                     \
            fail_msg("%s = %.17g, expected %.17g", #actual, expect_a, expect_b);                             \
    } while (0)

#endif
