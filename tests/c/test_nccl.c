/* Which NCCL is taken: what the environment orders, or what is loaded already, and no other; and what is said
 * where that will not do. The arguments are the paths of fake_nccl, whose own name is libnccl.so.2 and whom
 * the loader would find by it (LD_LIBRARY_PATH), and of another one without that name. Each search is made in
 * a process of its own, for it is made once. */
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
    const char *order;   /* NULL: no such variable */
    const char *loaded;  /* before the search; NULL: nothing */
    const char *version; /* of all fakes; NULL: their own */
    const char *refusal; /* NULL: one is taken, */
    const char *taken;   /* and says that it is of this version; NULL: that of fake_nccl */
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

static bool is_expected(const char *message) {
    char expected[1024];
    if (current->refusal != NULL)
        (void)snprintf(expected, sizeof expected, "visatb_sum_over_ranks: %s", current->refusal);
    else
        (void)snprintf(expected, sizeof expected,
                       "visatb_sum_over_ranks: NCCL %s: ncclCommCuDevice failed: invalid argument (run with "
                       "NCCL_DEBUG=WARN for details) (4)",
                       current->taken != NULL ? current->taken : "2.98.7");
    return strcmp(message, expected) == 0;
}

/* With a communicator that is none: whoever refuses it was found. */
static int find_nccl(int argument) {
    (void)argument;
    double value = 1;
    int64_t no_communicator[16] = {0};
    set("VISATB_NCCL", current->order);
    set("FAKE_NCCL_VERSION", current->version);
    if (current->loaded != NULL && dlopen(current->loaded, RTLD_NOW | RTLD_LOCAL) == NULL)
        return complain("it cannot be loaded");
    const visatb_status status = visatb_sum_over_ranks(&value, 1, NULL, 0, no_communicator, NULL);
    if (status != (current->refusal != NULL ? VISATB_ERROR_UNSUPPORTED : VISATB_ERROR_DEVICE))
        return complain("another status");
    if (!is_expected(visatb_last_error()))
        return complain("another message");
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
    make_search((search){.order = other_path, .taken = "2.99.6"});
    make_search((search){.order = other_path, .loaded = fake_path, .taken = "2.99.6"});
}

static void order_that_cannot_be_carried_out_is_refused(void **state) {
    (void)state;
    const char *missing = "the environment says VISATB_NCCL=" NOWHERE ": " NOWHERE CANNOT_OPEN OR_NO_VARIABLE;
    make_search((search){.order = NOWHERE, .refusal = missing});
    make_search((search){.order = NOWHERE, .loaded = fake_path, .refusal = missing});
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

static void what_is_loaded_is_taken(void **state) {
    (void)state;
    make_search((search){.loaded = fake_path});
    make_search((search){.loaded = fake_path, .order = ""});
}

/* Whoever made the communicator is loaded: one that the loader would find cannot be he. */
static void what_is_not_loaded_is_not_opened(void **state) {
    (void)state;
    const char *refusal = "the NCCL that made comm is not loaded as libnccl.so.2; expected it to be, or its "
                          "path in VISATB_NCCL";
    make_search((search){.refusal = refusal});
    make_search((search){.order = "", .refusal = refusal});
    make_search((search){.loaded = other_path, .refusal = refusal});
}

static void what_is_loaded_and_old_is_refused(void **state) {
    (void)state;
    make_search((search){
        .loaded = fake_path,
        .version = "2804",
        .refusal = "the libnccl.so.2 that is loaded cannot be used: it is NCCL 2.8.4, older than 2.9; "
                   "expected the NCCL that made comm, or its path in VISATB_NCCL",
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
        cmocka_unit_test(what_is_loaded_is_taken),
        cmocka_unit_test(what_is_not_loaded_is_not_opened),
        cmocka_unit_test(what_is_loaded_and_old_is_refused),
        cmocka_unit_test(without_a_communicator_nothing_is_searched),
        cmocka_unit_test(build_info_does_not_search),
    };
    if (argc != 3)
        return 2;
    fake_path = argv[1];
    other_path = argv[2];
    return cmocka_run_group_tests_name("which NCCL is taken", tests, NULL, NULL);
}
