/* Every allocation of libvisatb fails once: the call says so, leaves its result alone, and loses nothing.
 *
 * jansson's own allocations are counted but never fail: its parser (2.14) does not survive that.
 *
 * The program's own malloc stands before the C library's, also for libvisatb and jansson; sanitizers do the
 * same, so this runs in builds without them. */
#include "expect.h"
#include "score_documents.h"

#include <jansson.h>
#include <stdbool.h>

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-*,readability-inconsistent-*): these names are glibc's. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);

static bool watching;
static long until_failure; /* 1: the next allocation fails */
static long live;          /* allocated and not freed while watching */

static bool fails_now(void) {
    return watching && --until_failure == 0;
}

static void *counted(void *memory) {
    if (watching && memory)
        live++;
    return memory;
}

void *malloc(size_t size) {
    return fails_now() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size) {
    return fails_now() ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *memory, size_t size) {
    if (fails_now())
        return NULL;
    return memory ? __libc_realloc(memory, size) : counted(__libc_realloc(NULL, size));
}

void free(void *memory) {
    if (watching && memory)
        live--;
    __libc_free(memory);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-*,readability-inconsistent-*) */

static void *jansson_malloc(size_t size) {
    return counted(__libc_malloc(size));
}

static visatb_status weigh(void) {
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    visatb_status status = visatb_scores_parse(FULL_DOCUMENT, strlen(FULL_DOCUMENT), "scores.json", &scores);
    if (status == VISATB_OK)
        status = visatb_weights_compute(scores, NULL, &weights);
    visatb_weights_destroy(weights);
    visatb_scores_destroy(scores);
    return status;
}

static visatb_status evaluate(void) {
    static const char text[] =
        "{\"visatb_results\":1,\"baseline\":\"STL\",\"tasks\":[{\"name\":\"a\",\"metrics\":["
        "{\"name\":\"m\",\"higher_is_better\":true}]},{\"name\":\"z\",\"zero_shot\":true,"
        "\"metrics\":[{\"name\":\"m\",\"higher_is_better\":true}]}],\"methods\":{\"STL\":"
        "{\"a\":{\"m\":1}},\"EW\":{\"a\":{\"m\":2},\"z\":{\"m\":3}}}}";
    visatb_evaluation *evaluation = NULL;
    const visatb_status status =
        visatb_evaluation_compute(text, strlen(text), "results.json", NULL, &evaluation);
    visatb_evaluation_destroy(evaluation);
    return status;
}

static visatb_status read_weights(void) {
    static const char text[] = "{\"visatb_weights\":1,\"weights\":{\"a\":1,\"b\":2}}";
    static const char *const names[] = {"b", "a"};
    float weights[2];
    return visatb_weights_parse(text, strlen(text), "weights.json", 2, names, weights);
}

static visatb_status compute_on_arrays(void) {
    const visatb_layout layout = VISATB_LAYOUT(2);
    const double before[2] = {1, 2}, trained[4] = {2, 2.5, 1.5, 4};
    double contribution[4], difficulty[2], weights[2], improvement = 0.0;
    visatb_status status = visatb_contribution(&layout, trained, before, 0, contribution);
    if (status == VISATB_OK)
        status = visatb_difficulty(&layout, before, trained, difficulty);
    if (status == VISATB_OK)
        status = visatb_balance_weights(2, before, before, difficulty, NULL, weights, NULL, NULL);
    if (status == VISATB_OK)
        status = visatb_improvement(2, before, before, NULL, &improvement);
    return status;
}

/* Fails the first allocation, then the second, and so on, until the work needs no more. */
static void expect_survival(visatb_status (*work)(void)) {
    for (long failing = 1;; failing++) {
        until_failure = failing;
        live = 0;
        watching = true;
        const visatb_status status = work();
        watching = false;
        if (live != 0)
            fail_msg("allocation %ld fails: %ld blocks are lost", failing, live);
        if (until_failure > 0) {
            assert_int_equal(status, VISATB_OK);
            assert_true(failing > 1);
            return;
        }
        if (status != VISATB_ERROR_MEMORY)
            fail_msg("allocation %ld fails: %s: %s", failing, visatb_status_string(status),
                     visatb_last_error());
    }
}

static void weights_survive(void **state) {
    (void)state;
    expect_survival(weigh);
}

static void evaluations_survive(void **state) {
    (void)state;
    expect_survival(evaluate);
}

static void weights_files_survive(void **state) {
    (void)state;
    expect_survival(read_weights);
}

static void arrays_survive(void **state) {
    (void)state;
    expect_survival(compute_on_arrays);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_survive),
        cmocka_unit_test(evaluations_survive),
        cmocka_unit_test(weights_files_survive),
        cmocka_unit_test(arrays_survive),
    };
    json_set_alloc_funcs(jansson_malloc, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
