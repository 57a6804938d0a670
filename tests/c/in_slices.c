#include "in_slices.h"

#include "loss_reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int64_t in_slices_first(int64_t vocab, int64_t slices, int64_t slice) {
    return slice + (vocab - slices) * slice * slice / (slices * slices);
}

static void *allocate(int64_t count, size_t size) {
    void *memory = calloc((size_t)count + 1, size);
    assert_non_null(memory);
    return memory;
}

/* Everything that a call says besides its gradient. */
typedef struct outputs {
    double sums[3];
    float *rows; /* nll and lse */
    double *task_nll;
    int64_t *task_tokens;
    visatb_report report;
} outputs;

/* In the place of those that the caller asked for. */
static void create_outputs(outputs *out, visatb_vitw_loss_args *args) {
    *out = (outputs){
        .rows = allocate(2 * args->rows, sizeof(float)),
        .task_nll = allocate(args->tasks, sizeof(double)),
        .task_tokens = allocate(args->tasks, sizeof(int64_t)),
    };
    args->loss = &out->sums[0];
    args->numerator = args->numerator != NULL ? &out->sums[1] : NULL;
    args->denominator_out = args->denominator_out != NULL ? &out->sums[2] : NULL;
    args->row_nll = args->row_nll != NULL ? out->rows : NULL;
    args->row_lse = args->row_lse != NULL ? out->rows + args->rows : NULL;
    args->task_nll = args->task_nll != NULL ? out->task_nll : NULL;
    args->task_tokens = args->task_tokens != NULL ? out->task_tokens : NULL;
    args->report = args->report != NULL ? &out->report : NULL;
}

static void destroy_outputs(outputs *out) {
    free(out->rows);
    free(out->task_nll);
    free(out->task_tokens);
}

static void assert_same(const outputs *out, const outputs *first, const visatb_vitw_loss_args *args) {
    assert_memory_equal(out->sums, first->sums, sizeof out->sums);
    assert_memory_equal(out->rows, first->rows, 2 * (size_t)args->rows * sizeof(float));
    assert_memory_equal(out->task_nll, first->task_nll, (size_t)args->tasks * sizeof(double));
    assert_memory_equal(out->task_tokens, first->task_tokens, (size_t)args->tasks * sizeof(int64_t));
    assert_memory_equal(&out->report, &first->report, sizeof out->report);
}

static void copy(void *to, const void *from, int64_t count, size_t size) {
    if (to != NULL && from != NULL && count > 0)
        memcpy(to, from, (size_t)count * size);
}

static void hand_out(const visatb_vitw_loss_args *args, const outputs *out) {
    copy(args->loss, &out->sums[0], 1, sizeof(double));
    copy(args->numerator, &out->sums[1], 1, sizeof(double));
    copy(args->denominator_out, &out->sums[2], 1, sizeof(double));
    copy(args->row_nll, out->rows, args->rows, sizeof(float));
    copy(args->row_lse, out->rows + args->rows, args->rows, sizeof(float));
    copy(args->task_nll, out->task_nll, args->tasks, sizeof(double));
    copy(args->task_tokens, out->task_tokens, args->tasks, sizeof(int64_t));
    copy(args->report, &out->report, 1, sizeof out->report);
}

/* The columns of a slice, with strides that are those of whole rows. */
static visatb_vocab_slice narrow(visatb_vitw_loss_args *args, int64_t slices, int64_t index) {
    visatb_vocab_slice slice = VISATB_VOCAB_SLICE_INIT;
    slice.first = in_slices_first(args->vocab, slices, index);
    slice.width = in_slices_first(args->vocab, slices, index + 1) - slice.first;
    const size_t before = (size_t)slice.first * reference_size(args->dtype);
    args->logits = (const unsigned char *)args->logits + before;
    if (args->gradient != NULL)
        args->gradient = (unsigned char *)args->gradient + before;
    if (args->logits_stride == 0)
        args->logits_stride = args->vocab;
    if (args->gradient_stride == 0)
        args->gradient_stride = args->vocab;
    return slice;
}

static visatb_status run(const visatb_vitw_loss_args *args, int64_t slices, double *statistics) {
    visatb_status status = VISATB_OK;
    for (int64_t i = 0; status == VISATB_OK && i < slices; ++i) {
        visatb_vitw_loss_args own = *args;
        const visatb_vocab_slice slice = narrow(&own, slices, i);
        status =
            visatb_vitw_slice_statistics(&own, &slice, statistics + i * args->rows * VISATB_SLICE_STATISTICS);
    }
    outputs first = {.rows = NULL};
    for (int64_t i = 0; status == VISATB_OK && i < slices; ++i) {
        outputs out;
        visatb_vitw_loss_args own = *args;
        const visatb_vocab_slice slice = narrow(&own, slices, i);
        create_outputs(i == 0 ? &first : &out, &own);
        status = visatb_vitw_slice_loss(&own, &slice, slices, statistics);
        if (i == 0)
            continue;
        if (status == VISATB_OK)
            assert_same(&out, &first, args);
        destroy_outputs(&out);
    }
    if (status == VISATB_OK)
        hand_out(args, &first);
    destroy_outputs(&first);
    return status;
}

#ifdef IN_SLICES_ON_GPU

/* Where the kernels run on the host's memory (tests/fibres). fp64 stays where it is. */
static void *move_to_gpu(visatb_vitw_loss_args *args) {
    visatb_loss_plan plan = VISATB_LOSS_PLAN_INIT;
    args->cpu_path = VISATB_CPU_AUTO;
    if (args->dtype == VISATB_DTYPE_FLOAT64)
        return NULL;
    args->device = VISATB_DEVICE_CUDA;
    assert_int_equal(visatb_vitw_loss_plan(args, &plan), VISATB_OK);
    args->workspace_bytes = plan.workspace_bytes;
    args->workspace = allocate((int64_t)plan.workspace_bytes, 1);
    return args->workspace;
}

#else

static void *move_to_gpu(visatb_vitw_loss_args *args) {
    (void)args;
    return NULL;
}

#endif

visatb_status in_slices_vitw_loss(const visatb_vitw_loss_args *args) {
    const char *wanted = getenv("VISATB_TEST_SLICES");
    const int64_t most = wanted == NULL ? 0 : strtol(wanted, NULL, 10);
    assert_true(most > 0);
    visatb_vitw_loss_args known = *args;
    known.size = sizeof known;
    const int64_t slices = most < args->vocab ? most : args->vocab;
    double *statistics = allocate(slices * args->rows * VISATB_SLICE_STATISTICS, sizeof(double));
    void *workspace = move_to_gpu(&known);
    const visatb_status status = run(&known, slices, statistics);
    free(workspace);
    free(statistics);
    return status;
}
