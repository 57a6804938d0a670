#include "loss/run.h"

#include "common/error.h"
#include "common/parallel.h"
#include "cpu/convert.h"

#include <stdlib.h>

typedef struct run {
    const loss_plan *plan;
    loss_outcome *outcomes;       /* [rows], or NULL: */
    slice_statistics *statistics; /* [rows] */
    unsigned char *scratch;       /* [threads, scratch_bytes] */
    size_t scratch_bytes;
} run;

static void run_rows(void *context, int64_t first, int64_t end, int worker) {
    const run *of = context;
    const visatb_vitw_loss_args *args = of->plan->args;
    const size_t element = convert_element_size(args->dtype);
    const unsigned char *logits = args->logits;
    unsigned char *gradient = args->gradient;
    void *scratch = of->scratch + (size_t)worker * of->scratch_bytes;
    for (int64_t row = first; row < end; ++row) {
        const void *row_logits = logits + (size_t)(row * args->logits_stride) * element;
        void *row_gradient =
            gradient == NULL ? NULL : gradient + (size_t)(row * args->gradient_stride) * element;
        if (of->outcomes != NULL)
            loss_run_row(of->plan, row, row_logits, row_gradient, scratch, &of->outcomes[row]);
        else
            loss_measure_row(of->plan, row, row_logits, scratch, &of->statistics[row]);
    }
}

/* A thread that has less to do than this many elements is not worth its start. */
enum { ELEMENTS_PER_THREAD = 1 << 17 };

static int useful_threads(const loss_plan *plan) {
    const visatb_vitw_loss_args *args = plan->args;
    const int64_t rows_per_thread = 1 + ELEMENTS_PER_THREAD / args->vocab;
    const int64_t most = 1 + args->rows / rows_per_thread;
    /* A pool of the caller's has its threads already, and is called whole. */
    if (plan->args->team != NULL && most > 1)
        return plan->threads;
    return plan->threads < most ? plan->threads : (int)most;
}

/* Neighbouring rows go to one thread, which fetches the next while it works on this one; but few at a time,
 * since an ignored row is done sooner than another. */
static int64_t rows_per_piece(int64_t rows, int threads) {
    const int64_t share = rows / (4 * (int64_t)threads);
    return share < 1 ? 1 : share < 16 ? share : 16;
}

/* Without statistics to write, the whole call. */
static visatb_status run_all(const char *function, const loss_plan *plan, slice_statistics *statistics) {
    const visatb_vitw_loss_args *args = plan->args;
    const int threads = useful_threads(plan);
    run all = {.plan = plan, .statistics = statistics, .scratch_bytes = loss_scratch_bytes(plan)};
    const size_t outcomes_bytes =
        statistics != NULL ? 0 : loss_aligned_bytes((size_t)args->rows * sizeof *all.outcomes);
    /* One cache line more, so that there is something to take without rows. */
    void *memory = aligned_alloc(LOSS_CACHE_LINE,
                                 LOSS_CACHE_LINE + outcomes_bytes + (size_t)threads * all.scratch_bytes);
    if (memory == NULL)
        return error_out_of_memory(function);
    if (statistics == NULL)
        all.outcomes = memory;
    all.scratch = (unsigned char *)memory + outcomes_bytes;

    parallel_for(threads, args->team, args->rows, rows_per_piece(args->rows, threads), run_rows, &all);
    if (statistics == NULL)
        loss_finish(plan, all.outcomes);
    free(memory);
    return VISATB_OK;
}

visatb_status loss_run(const char *function, const loss_plan *plan) {
    return run_all(function, plan, NULL);
}

visatb_status loss_measure(const char *function, const loss_plan *plan, slice_statistics *statistics) {
    /* Without rows there is nothing to tell, and there may be no array. */
    return plan->args->rows == 0 ? VISATB_OK : run_all(function, plan, statistics);
}
