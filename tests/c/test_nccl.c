/* Which NCCL is opened: what the environment orders, what is loaded already, what is offered, what the system
 * has; and what is said where none will do. The arguments are the paths of fake_nccl, whose own name is
 * libnccl.so.2, and of another one. Each search is made in a process of its own, for it is made once. */
#include "expect.h"
#include "fake_nccl.h"
#include "in_child.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *fake_path;
static const char *other_path;

typedef struct search {
    const char *order; /* NULL: no such variable */
    const char *offer;
    bool is_loaded;      /* the fake, before the search */
    const char *version; /* of the fake; NULL: its own */
    const char *refusal; /* NULL: the fake is opened */
} search;

static const search *current;

static void set(const char *name, const char *value) {
    if ((value != NULL ? setenv(name, value, 1) : unsetenv(name)) != 0)
        abort();
}

/* 0, or what is said on standard error: cmocka's own jumps belong to the parent. */
static int complain(const char *what) {
    (void)fprintf(stderr, "%s: \"%s\"", what, visatb_last_error());
    return 1;
}

/* With a communicator that is none: whoever refuses it was found. */
static int find_nccl(int argument) {
    (void)argument;
    double value = 1;
    int64_t no_communicator[16] = {0};
    set("VISATB_NCCL", current->order);
    set("VISATB_NCCL_OFFER", current->offer);
    set("FAKE_NCCL_VERSION", current->version);
    if (current->is_loaded && dlopen(fake_path, RTLD_NOW | RTLD_LOCAL) == NULL)
        return complain("it cannot be loaded");
    const visatb_status status = visatb_sum_over_ranks(&value, 1, NULL, 0, no_communicator, NULL);
    if (status != (current->refusal != NULL ? VISATB_ERROR_UNSUPPORTED : VISATB_ERROR_DEVICE))
        return complain("another status");
    const char *expected = current->refusal != NULL
                               ? current->refusal
                               : "NCCL 2.98.7: ncclCommCuDevice failed: invalid argument (run with "
                                 "NCCL_DEBUG=WARN for details) (4)";
    static const char function[] = "visatb_sum_over_ranks: ";
    if (strncmp(visatb_last_error(), function, strlen(function)) != 0 ||
        strcmp(visatb_last_error() + strlen(function), expected) != 0)
        return complain(expected);
    return value == 1 ? 0 : complain("the value was changed");
}

static void make_search(search wanted) {
    char text[4096];
    current = &wanted;
    if (run_in_child(find_nccl, 0, text, sizeof text) != 0)
        fail_msg("%s", text);
}

#define NOWHERE "/nowhere/libnccl.so.2"
#define CANNOT_OPEN ": cannot open shared object file: No such file or directory"
#define OR_NO_VARIABLE "; expected the path of a NCCL, or no such variable"

static void order_is_carried_out(void **state) {
    (void)state;
    make_search((search){.order = fake_path});
    make_search((search){.order = fake_path, .offer = other_path});
}

static void order_that_cannot_be_carried_out_is_refused(void **state) {
    (void)state;
    const char *missing = "the environment says VISATB_NCCL=" NOWHERE ": " NOWHERE CANNOT_OPEN OR_NO_VARIABLE;
    make_search((search){.order = NOWHERE, .refusal = missing});
    make_search((search){.order = NOWHERE, .offer = fake_path, .refusal = missing});
    make_search((search){.order = NOWHERE, .is_loaded = true, .refusal = missing});
    make_search((search){
        .order = "libm.so.6",
        .refusal = "the environment says VISATB_NCCL=libm.so.6: it has no ncclGetVersion" OR_NO_VARIABLE,
    });
}

/* Of both ways in which NCCL has counted its versions. */
static void what_is_old_is_refused(void **state) {
    (void)state;
    char message[1024];
    (void)snprintf(message, sizeof message,
                   "the environment says VISATB_NCCL=%s: it is NCCL 2.8.4, older than 2.9" OR_NO_VARIABLE,
                   fake_path);
    make_search((search){.order = fake_path, .version = "2804", .refusal = message});
    (void)snprintf(message, sizeof message,
                   "the environment says VISATB_NCCL=%s: it is NCCL 1.99.99, older than 2.9" OR_NO_VARIABLE,
                   fake_path);
    make_search((search){.order = fake_path, .version = "19999", .refusal = message});
}

static void what_is_loaded_is_taken_before_what_is_offered(void **state) {
    (void)state;
    make_search((search){.offer = NOWHERE, .is_loaded = true});
    make_search((search){.order = "", .is_loaded = true});
    make_search((search){.offer = other_path, .is_loaded = true});
}

static void offer_is_taken_or_passed_over(void **state) {
    (void)state;
    make_search((search){.offer = fake_path});
    if (dlopen("libnccl.so.2", RTLD_LAZY) != NULL)
        skip(); /* the system has one */
    const char *nowhere = "no NCCL found (VISATB_NCCL_OFFER=" NOWHERE CANNOT_OPEN ", libnccl.so.2" CANNOT_OPEN
                          "); expected one that is installed, or its path in VISATB_NCCL";
    make_search((search){.offer = NOWHERE, .refusal = nowhere});
    make_search((search){
        .offer = "",
        .refusal = "no NCCL found (libnccl.so.2" CANNOT_OPEN
                   "); expected one that is installed, or its path in VISATB_NCCL",
    });
    make_search((search){
        .offer = "libm.so.6",
        .refusal =
            "no NCCL found (VISATB_NCCL_OFFER=libm.so.6: it has no ncclGetVersion, libnccl.so.2" CANNOT_OPEN
            "); expected one that is installed, or its path in VISATB_NCCL",
    });
}

/* A program that has only one rank needs no NCCL, not even one that was ordered. */
static int sum_over_one_rank(int argument) {
    (void)argument;
    double value = 1;
    set("VISATB_NCCL", NOWHERE);
    if (visatb_sum_over_ranks(&value, 1, NULL, 0, NULL, NULL) != VISATB_OK || value != 1)
        return complain("one rank");
    return visatb_sum_over_ranks(&value, 0, NULL, 0, &value, NULL) == VISATB_OK ? 0 : complain("no values");
}

static void without_a_communicator_nothing_is_searched(void **state) {
    (void)state;
    char text[1024];
    if (run_in_child(sum_over_one_rank, 0, text, sizeof text) != 0)
        fail_msg("%s", text);
}

static void build_info_does_not_search(void **state) {
    (void)state;
    assert_non_null(strstr(visatb_build_info(), "\ncuda: fibres\nnccl: looked for at first use\n"));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_carried_out),
        cmocka_unit_test(order_that_cannot_be_carried_out_is_refused),
        cmocka_unit_test(what_is_old_is_refused),
        cmocka_unit_test(what_is_loaded_is_taken_before_what_is_offered),
        cmocka_unit_test(offer_is_taken_or_passed_over),
        cmocka_unit_test(without_a_communicator_nothing_is_searched),
        cmocka_unit_test(build_info_does_not_search),
    };
    if (argc != 3)
        return 2;
    fake_path = argv[1];
    other_path = argv[2];
    return cmocka_run_group_tests_name("which NCCL is opened", tests, NULL, NULL);
}
