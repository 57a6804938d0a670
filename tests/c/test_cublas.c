/* Which cuBLAS is opened: what the environment orders, what is loaded already, what is offered, what the
 * system has; and what is said where none will do. The argument is the path of fake_cublas, whose own name is
 * libcublas.so.13. Each test runs in a process of its own, for the search is made once. */
#include "expect.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *fake_path;

static void set(const char *name, const char *value) {
    assert_int_equal(value != NULL ? setenv(name, value, 1) : unsetenv(name), 0);
}

/* In a child with this environment; NULL: no such variable. */
static void in_child(const char *order, const char *offer, void (*body)(void)) {
    (void)fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        set("VISATB_CUBLAS", order);
        set("VISATB_CUBLAS_OFFER", offer);
        body();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A child leaves by its status: cmocka's own jumps belong to the parent. */
static void need(bool condition, const char *what) {
    if (condition)
        return;
    (void)fprintf(stderr, "%s: \"%s\"\n", what, visatb_last_error());
    _exit(1);
}

static const char *product_of(visatb_context *context) {
    static visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    const visatb_vitw_linear_loss_args args = {
        .size = sizeof args,
        .rows = 1,
        .hidden_size = 1,
        .vocab = 2,
        .tasks = 1,
        .dtype = VISATB_DTYPE_FLOAT32,
        .device = VISATB_DEVICE_CUDA,
        .context = context,
    };
    need(visatb_vitw_linear_loss_plan(&args, &plan) == VISATB_OK, "no plan");
    return plan.product;
}

static void take_the_fake(void) {
    visatb_context *context = NULL;
    need(visatb_context_create(&context) == VISATB_OK, "no context");
    need(strcmp(product_of(context), "cuBLAS 99.8.7") == 0, "another cuBLAS");
    visatb_context_destroy(context);
}

static void need_refusal(const char *message) {
    visatb_context *context = NULL;
    need(visatb_context_create(&context) == VISATB_ERROR_UNSUPPORTED, "no refusal");
    need(strcmp(visatb_last_error(), message) == 0, message);
    need(context == NULL, "a context");
    need(strcmp(product_of(NULL), "cuBLAS") == 0, "a plan needs no cuBLAS");
}

#define NOWHERE "/nowhere/libcublas.so"
#define IS_MISSING NOWHERE ": cannot open shared object file: No such file or directory"

static void refuse_what_is_missing(void) {
    need_refusal("visatb_context_create: the environment says VISATB_CUBLAS=" NOWHERE ": " IS_MISSING
                 "; expected the path of a cuBLAS, or no such variable");
}

static void refuse_what_is_another_library(void) {
    need_refusal("visatb_context_create: the environment says VISATB_CUBLAS=libm.so.6: it has no "
                 "cublasCreate_v2; expected the path of a cuBLAS, or no such variable");
}

static void refuse_what_is_old(void) {
    char message[1024];
    (void)snprintf(message, sizeof message,
                   "visatb_context_create: the environment says VISATB_CUBLAS=%s: it is cuBLAS 11.8.7, "
                   "older than 12; expected the path of a cuBLAS, or no such variable",
                   fake_path);
    set("FAKE_CUBLAS_VERSION", "11");
    need_refusal(message);
}

static void refuse_what_is_nowhere(void) {
    need_refusal(
        "visatb_context_create: no cuBLAS found (VISATB_CUBLAS_OFFER=" IS_MISSING
        ", libcublas.so.13: cannot open shared object file: No such file or directory, libcublas.so.12: "
        "cannot open shared object file: No such file or directory); expected one that is installed, or "
        "its path in VISATB_CUBLAS");
}

static void take_what_is_loaded(void) {
    need(dlopen(fake_path, RTLD_NOW | RTLD_LOCAL) != NULL, "it cannot be loaded");
    take_the_fake();
}

static void order_is_carried_out(void **state) {
    (void)state;
    in_child(fake_path, NULL, take_the_fake);
    in_child(fake_path, NOWHERE, take_the_fake);
}

static void order_that_cannot_be_carried_out_is_refused(void **state) {
    (void)state;
    in_child(NOWHERE, NULL, refuse_what_is_missing);
    in_child(NOWHERE, fake_path, refuse_what_is_missing);
    in_child("libm.so.6", NULL, refuse_what_is_another_library);
    in_child(fake_path, NULL, refuse_what_is_old);
}

static void what_is_loaded_is_taken_before_what_is_offered(void **state) {
    (void)state;
    in_child(NULL, NOWHERE, take_what_is_loaded);
    in_child("", NULL, take_what_is_loaded);
}

static void offer_is_taken_or_passed_over(void **state) {
    (void)state;
    in_child(NULL, fake_path, take_the_fake);
    if (dlopen("libcublas.so.13", RTLD_LAZY) != NULL || dlopen("libcublas.so.12", RTLD_LAZY) != NULL)
        skip(); /* the system has one */
    in_child(NULL, NOWHERE, refuse_what_is_nowhere);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_carried_out),
        cmocka_unit_test(order_that_cannot_be_carried_out_is_refused),
        cmocka_unit_test(what_is_loaded_is_taken_before_what_is_offered),
        cmocka_unit_test(offer_is_taken_or_passed_over),
    };
    if (argc != 2)
        return 2;
    fake_path = argv[1];
    return cmocka_run_group_tests_name("which cuBLAS is opened", tests, NULL, NULL);
}
