/* Version, status names and the last error. */
#include "expect.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void the_version_is_that_of_the_header(void **state) {
    (void)state;
    char expected[32];
    (void)snprintf(expected, sizeof expected, "%d.%d.%d", VISATB_VERSION_MAJOR, VISATB_VERSION_MINOR,
                   VISATB_VERSION_PATCH);
    assert_string_equal(visatb_version(), expected);
    assert_non_null(strstr(visatb_build_info(), "version: "));
    assert_non_null(strstr(visatb_build_info(), "\njson: "));
    assert_non_null(strstr(visatb_build_info(), "\ncpu loss: "));
}

static void every_status_has_a_name(void **state) {
    (void)state;
    assert_string_equal(visatb_status_string(VISATB_OK), "ok");
    for (int status = VISATB_OK; status <= VISATB_ERROR_UNSUPPORTED; status++)
        assert_string_not_equal(visatb_status_string((visatb_status)status), "unknown status");
    assert_string_equal(visatb_status_string((visatb_status)77), "unknown status");
}

static void a_message_stays_until_the_next_failure(void **state) {
    (void)state;
    double value = 1.0, weight = 0.0;
    expect_failure(visatb_softmax_weights(0, &value, 1.0, &weight), VISATB_ERROR_ARGUMENT,
                   "visatb_softmax_weights: units = 0; expected 1 or more");
    expect_ok(visatb_softmax_weights(1, &value, 1.0, &weight));
    assert_string_equal(visatb_last_error(), "visatb_softmax_weights: units = 0; expected 1 or more");
    assert_string_equal(visatb_last_error_path(), "");
}

static void *message_of_a_new_thread(void *copy) {
    (void)strncpy(copy, visatb_last_error(), 63);
    double value = 1.0;
    (void)visatb_softmax_weights(1, &value, -1.0, &value);
    return NULL;
}

static void each_thread_has_its_own_message(void **state) {
    (void)state;
    double value = 1.0;
    (void)visatb_softmax_weights(0, &value, 1.0, &value);
    char seen[64] = "not written";
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, message_of_a_new_thread, seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(seen, "");
    assert_string_equal(visatb_last_error(), "visatb_softmax_weights: units = 0; expected 1 or more");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_is_that_of_the_header),
        cmocka_unit_test(every_status_has_a_name),
        cmocka_unit_test(a_message_stays_until_the_next_failure),
        cmocka_unit_test(each_thread_has_its_own_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
