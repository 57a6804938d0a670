/* Every allocation of libvisatb fails once: the call says so, leaves its result alone, and loses nothing.
 *
 * jansson's own allocations are counted but never fail: its parser (2.14) does not survive that.
 *
 * The program's own malloc stands before the C library's, also for libvisatb and jansson; sanitizers do the
 * same, so this runs in builds without them. */
#include "expect.h"
#include "score_documents.h"

#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-*,readability-inconsistent-*): these names are glibc's. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
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

void *aligned_alloc(size_t alignment, size_t size) {
    return fails_now() ? NULL : counted(__libc_memalign(alignment, size));
}

void free(void *memory) {
    if (watching && memory)
        live--;
    __libc_free(memory);
}

static int threads_to_be_had = 1000;

/* Like the C library's, until there are no threads to be had. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument) {
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = NULL;
    void *const symbol = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&create, &symbol, sizeof create);
    return threads_to_be_had-- > 0 ? create(thread, attributes, start, argument) : EAGAIN;
}
/* NOLINTEND(bugprone-reserved-identifier,cert-*,readability-inconsistent-*) */

static void *jansson_malloc(size_t size) {
    return counted(__libc_malloc(size));
}

/* ---- the loss ---- */

enum { LOSS_ROWS = 9, LOSS_VOCAB = 40000 };

/* What a call of the loss writes, all in one piece. */
typedef struct loss_outputs {
    double loss, numerator, denominator;
    float row_nll[LOSS_ROWS], row_lse[LOSS_ROWS];
    double task_nll[2];
    int64_t task_tokens[2];
    visatb_report report;
    float gradient[LOSS_ROWS * LOSS_VOCAB];
} loss_outputs;

static float loss_logits[LOSS_ROWS * LOSS_VOCAB];
static loss_outputs loss_written;

/* Whole rows, or a slice that is all of the vocabulary. */
enum { LOSS_WHOLE, LOSS_TOLD, LOSS_SLICED };
static double loss_told[LOSS_ROWS * VISATB_SLICE_STATISTICS];

static visatb_status compute_loss_by(int form) {
    static const int64_t labels[LOSS_ROWS] = {0, 1, 2, -100, 4, 5, 6, 39999, 8};
    static const int32_t task_ids[LOSS_ROWS] = {0, 1, 0, 1, 0, 1, 0, 1, 0};
    static const float weights[2] = {0.5F, 1.5F};
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = LOSS_ROWS;
    args.vocab = LOSS_VOCAB;
    args.tasks = 2;
    args.dtype = VISATB_DTYPE_FLOAT32;
    args.softcap = 30; /* takes working memory in every path that ever does */
    args.threads = 3;
    args.logits = loss_logits;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = weights;
    args.loss = &loss_written.loss;
    args.numerator = &loss_written.numerator;
    args.denominator_out = &loss_written.denominator;
    args.gradient = loss_written.gradient;
    args.row_nll = loss_written.row_nll;
    args.row_lse = loss_written.row_lse;
    args.task_nll = loss_written.task_nll;
    args.task_tokens = loss_written.task_tokens;
    args.report = &loss_written.report;
    visatb_vocab_slice slice = VISATB_VOCAB_SLICE_INIT;
    slice.width = LOSS_VOCAB;
    switch (form) {
    case LOSS_TOLD: return visatb_vitw_slice_statistics(&args, &slice, loss_told);
    case LOSS_SLICED: return visatb_vitw_slice_loss(&args, &slice, 1, loss_told);
    default: return visatb_vitw_loss(&args);
    }
}

static visatb_status compute_loss(void) {
    return compute_loss_by(LOSS_WHOLE);
}

/* One allocation it is, and the C library's own for its threads are none of it. */
static void loss_without_memory_says_so_and_writes_nothing(void **state) {
    (void)state;
    static loss_outputs before;
    memset(&before, 0xa5, sizeof before);
    loss_written = before;
    until_failure = 1;
    live = 0;
    watching = true;
    const visatb_status status = compute_loss();
    watching = false;
    assert_int_equal(status, VISATB_ERROR_MEMORY);
    assert_string_equal(visatb_last_error(), "visatb_vitw_loss: out of memory");
    assert_int_equal(live, 0);
    assert_memory_equal(&loss_written, &before, sizeof before);
}

static void slices_without_memory_say_so_and_write_nothing(void **state) {
    (void)state;
    static loss_outputs before;
    static const char *const messages[] = {
        [LOSS_TOLD] = "visatb_vitw_slice_statistics: out of memory",
        [LOSS_SLICED] = "visatb_vitw_slice_loss: out of memory",
    };
    assert_int_equal(compute_loss_by(LOSS_TOLD), VISATB_OK);
    memset(&before, 0xa5, sizeof before);
    loss_written = before;
    for (int form = LOSS_TOLD; form <= LOSS_SLICED; ++form) {
        until_failure = 1;
        live = 0;
        watching = true;
        const visatb_status status = compute_loss_by(form);
        watching = false;
        assert_int_equal(status, VISATB_ERROR_MEMORY);
        assert_string_equal(visatb_last_error(), messages[form]);
        assert_int_equal(live, 0);
        assert_memory_equal(&loss_written, &before, sizeof before);
    }
}

static void loss_gives_back_what_it_took(void **state) {
    (void)state;
    threads_to_be_had = 0; /* what the C library keeps of a thread is not ours */
    until_failure = 0;
    live = 0;
    watching = true;
    const visatb_status status = compute_loss();
    watching = false;
    threads_to_be_had = 1000;
    assert_int_equal(status, VISATB_OK);
    assert_int_equal(until_failure, -1);
    assert_int_equal(live, 0);
}

static void loss_without_threads_has_the_same_bits(void **state) {
    (void)state;
    static loss_outputs with_threads;
    for (size_t i = 0; i < sizeof loss_logits / sizeof *loss_logits; i++)
        loss_logits[i] = (float)(i % 1009) / 64;
    memset(&loss_written, 0, sizeof loss_written);
    threads_to_be_had = 1000;
    assert_int_equal(compute_loss(), VISATB_OK);
    assert_int_equal(threads_to_be_had, 1000 - 2); /* the caller is the third */
    with_threads = loss_written;
    for (int available = 0; available < 2; available++) {
        memset(&loss_written, 0, sizeof loss_written);
        threads_to_be_had = available;
        assert_int_equal(compute_loss(), VISATB_OK);
        assert_memory_equal(&loss_written, &with_threads, sizeof with_threads);
    }
    threads_to_be_had = 1000;
}

/* ---- files and arrays ---- */

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

static visatb_status make_method(visatb_method_kind kind) {
    visatb_method_options options = VISATB_METHOD_OPTIONS_INIT;
    options.kind = kind;
    options.tasks = 3;
    visatb_method *method = NULL;
    const visatb_status status = visatb_method_create(&options, &method);
    if (status != VISATB_OK) {
        assert_null(method);
        assert_string_equal(visatb_last_error(), "visatb_method_create: out of memory");
    }
    visatb_method_destroy(method);
    return status;
}

static visatb_status make_methods(void) {
    const visatb_status status = make_method(VISATB_METHOD_DWA);
    return status == VISATB_OK ? make_method(VISATB_METHOD_IGBV1) : status;
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

static void methods_survive(void **state) {
    (void)state;
    expect_survival(make_methods);
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
        cmocka_unit_test(methods_survive),
        cmocka_unit_test(loss_without_memory_says_so_and_writes_nothing),
        cmocka_unit_test(slices_without_memory_say_so_and_write_nothing),
        cmocka_unit_test(loss_gives_back_what_it_took),
        cmocka_unit_test(loss_without_threads_has_the_same_bits),
    };
    json_set_alloc_funcs(jansson_malloc, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
