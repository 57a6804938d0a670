/* What a build with CUDA and VISATB_NCCL=OFF answers. */
#include "expect.h"

#include <string.h>

static void other_ranks_are_refused(void **state) {
    (void)state;
    double value = 1;
    expect_failure(visatb_sum_over_ranks(&value, 1, NULL, 0, &value, NULL), VISATB_ERROR_UNSUPPORTED,
                   "visatb_sum_over_ranks: this library was built without NCCL (VISATB_NCCL=OFF)");
    expect_ok(visatb_sum_over_ranks(&value, 1, NULL, 0, NULL, NULL));
    assert_true(value == 1);
}

static void build_info_says_so(void **state) {
    (void)state;
    assert_non_null(strstr(visatb_build_info(), "\nnccl: no (VISATB_NCCL=OFF)\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_ranks_are_refused),
        cmocka_unit_test(build_info_says_so),
    };
    return cmocka_run_group_tests_name("a build without NCCL", tests, NULL, NULL);
}
