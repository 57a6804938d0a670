/* A library built without JSON says so, and its mathematics works. */
#include "expect.h"

#include <string.h>

static void files_are_refused_with_the_way_out(void **state) {
    (void)state;
    visatb_scores *scores = NULL;
    expect_failure(
        visatb_scores_read("scores.json", &scores), VISATB_ERROR_UNSUPPORTED,
        "visatb_scores_read: this library was built without JSON; install jansson and build again with "
        "-DVISATB_JSON=ON");
    assert_null(scores);
    assert_non_null(strstr(visatb_build_info(), "\njson: no\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_are_refused_with_the_way_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
