/* The public entry of the loss on logits: check the call, take the memory, run the rows, hand out the sums.
 */
#include "common/error.h"
#include "common/parallel.h"
#include "cuda/cuda.h"
#include "loss/check.h"
#include "loss/rows.h"

#include "cpu/convert.h"

#include <stdlib.h>

typedef struct loss_run {
    const loss_plan *plan;
    loss_outcome *outcomes; /* [rows] */
    unsigned char *scratch; /* [threads, scratch_bytes] */
    size_t scratch_bytes;
} loss_run;

static void run_rows(void *context, int64_t first, int64_t end, int worker) {
    const loss_run *run = context;
    const visatb_vitw_loss_args *args = run->plan->args;
    const size_t element = convert_element_size(args->dtype);
    const unsigned char *logits = args->logits;
    unsigned char *gradient = args->gradient;
    void *scratch = run->scratch + (size_t)worker * run->scratch_bytes;
    for (int64_t row = first; row < end; ++row) {
        void *row_gradient =
            gradient == NULL ? NULL : gradient + (size_t)(row * args->gradient_stride) * element;
        loss_run_row(run->plan, row, logits + (size_t)(row * args->logits_stride) * element, row_gradient,
                     scratch, &run->outcomes[row]);
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

static visatb_status run_on_cpu(const visatb_vitw_loss_args *args, const loss_backend *backend) {
    const loss_plan plan = loss_plan_of(args, backend);
    const int threads = useful_threads(&plan);
    loss_run run = {.plan = &plan, .scratch_bytes = loss_scratch_bytes(&plan)};
    const size_t outcomes_bytes = loss_aligned_bytes((size_t)args->rows * sizeof *run.outcomes);
    /* One cache line more, so that there is something to take without rows. */
    void *memory = aligned_alloc(LOSS_CACHE_LINE,
                                 LOSS_CACHE_LINE + outcomes_bytes + (size_t)threads * run.scratch_bytes);
    if (memory == NULL)
        return error_out_of_memory("visatb_vitw_loss");
    run.outcomes = memory;
    run.scratch = (unsigned char *)memory + outcomes_bytes;

    parallel_for(threads, args->team, args->rows, rows_per_piece(args->rows, threads), run_rows, &run);
    loss_finish(&plan, run.outcomes);
    free(memory);
    return VISATB_OK;
}

visatb_status visatb_vitw_loss(const visatb_vitw_loss_args *args) {
    visatb_vitw_loss_args checked;
    const loss_backend *backend = NULL;
    const visatb_status status = loss_check(args, &checked, &backend);
    if (status != VISATB_OK)
        return status;
    return checked.device == VISATB_DEVICE_CUDA ? cuda_vitw_loss(&checked) : run_on_cpu(&checked, backend);
}

visatb_status visatb_vitw_loss_plan(const visatb_vitw_loss_args *args, visatb_loss_plan *plan) {
    static const char function[] = "visatb_vitw_loss_plan";
    visatb_vitw_loss_args checked;
    const loss_backend *backend = NULL;
    if (plan == NULL)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: plan = NULL; expected a pointer", function);
    if (plan->size < sizeof *plan)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: plan->size = %zu; expected %zu, as VISATB_LOSS_PLAN_INIT sets it", function,
                         plan->size, sizeof *plan);
    const visatb_status status = loss_check_plan(function, args, &checked, &backend);
    if (status != VISATB_OK)
        return status;
    if (checked.device == VISATB_DEVICE_CUDA)
        return cuda_vitw_loss_plan(&checked, plan);
    *plan = (visatb_loss_plan){.size = plan->size, .cpu_path = VISATB_CPU_PORTABLE};
    if (checked.dtype != VISATB_DTYPE_FLOAT64) /* cannot fail: the choices were found good */
        (void)visatb_cpu_path_taken(checked.cpu_path, &plan->cpu_path);
    return VISATB_OK;
}
