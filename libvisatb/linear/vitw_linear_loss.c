/* The public entry of the loss of a linear head. */
#include "linear/linear.h"

#include "common/error.h"
#include "common/parallel.h"
#include "cpu/convert.h"
#include "cuda/cuda.h"
#include "linear/elements.h"
#include "loss/check.h"

#include <string.h>

typedef struct linear_run {
    const linear_call *call;
    const linear_layout *layout;
    loss_plan plan;
    loss_outcome *outcomes; /* [rows] */
    int64_t *index;         /* [valid rows] */
    int64_t chunk_first;    /* of the index */
    linear_chunk chunk;
} linear_run;

/* Rows are taken a few at a time: where there are many of them, each is short. */
enum { ROWS_AT_A_TIME = 4 };

static void for_rows(linear_run *run, int64_t rows, parallel_work *work) {
    parallel_for(run->layout->workers, run->chunk.call->args.team, rows, ROWS_AT_A_TIME, work, run);
}

static void *row_of(void *matrix, int64_t stride, int64_t row, size_t element) {
    return (unsigned char *)matrix + (size_t)(row * stride) * element;
}

/* --- the steps of a chunk, for some of its rows --------------------------------------------------------- */

static void gather_hidden(void *context, int64_t first, int64_t end, int worker) {
    (void)worker;
    const linear_run *run = context;
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const size_t element = convert_element_size(args->dtype);
    const size_t wide = linear_wide_bytes(run->call);
    const unsigned char *hidden = args->hidden;
    for (int64_t row = first; row < end; ++row) {
        const int64_t index = run->index[run->chunk_first + row];
        elements_widen(args->dtype, hidden + (size_t)(index * args->hidden_stride) * element,
                       args->hidden_size, row_of(run->chunk.hidden, args->hidden_size, row, wide));
    }
}

/* A row of weight 0 has an exact zero gradient even over NaN, which 0 times NaN would carry into the head's:
 * the one product that reads hidden once more. */
static void forget_untrained_row(const linear_run *run, int64_t row, int64_t index) {
    const int64_t size = run->call->args.hidden_size;
    const size_t wide = linear_wide_bytes(run->call);
    if (run->call->args.weight_gradient != NULL && loss_row_weight(&run->call->loss, index) == 0)
        memset(row_of(run->chunk.hidden, size, row, wide), 0, (size_t)size * wide);
}

static void run_loss(void *context, int64_t first, int64_t end, int worker) {
    const linear_run *run = context;
    const linear_layout *layout = run->layout;
    const bool wants_gradient = linear_wants_gradient(run->call);
    float *scratch = (float *)(void *)(run->chunk.rooms + (size_t)worker * layout->room_bytes);
    for (int64_t row = first; row < end; ++row) {
        const int64_t index = run->index[run->chunk_first + row];
        void *logits = row_of(run->chunk.logits, layout->logits_stride, row, linear_wide_bytes(run->call));
        loss_run_row(&run->plan, index, logits, wants_gradient ? logits : NULL, scratch,
                     &run->outcomes[index]);
        forget_untrained_row(run, row, index);
    }
}

static void scatter_hidden_gradient(void *context, int64_t first, int64_t end, int worker) {
    (void)worker;
    const linear_run *run = context;
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const size_t element = convert_element_size(args->dtype);
    const size_t wide = linear_wide_bytes(run->call);
    for (int64_t row = first; row < end; ++row) {
        const int64_t index = run->index[run->chunk_first + row];
        void *to = row_of(args->hidden_gradient, args->hidden_gradient_stride, index, element);
        if (loss_row_weight(&run->call->loss, index) > 0)
            elements_narrow(args->dtype, row_of(run->chunk.hidden, args->hidden_size, row, wide),
                            args->hidden_size, to);
        else
            memset(to, 0, (size_t)args->hidden_size * element);
    }
}

static void run_chunk(linear_run *run) {
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    for_rows(run, run->chunk.rows, gather_hidden);
    linear_multiply_logits(&run->chunk);
    for_rows(run, run->chunk.rows, run_loss);
    if (args->weight_gradient != NULL || args->bias_gradient != NULL)
        linear_multiply_head_gradient(&run->chunk);
    if (args->hidden_gradient != NULL) {
        linear_multiply_hidden_gradient(&run->chunk);
        for_rows(run, run->chunk.rows, scatter_hidden_gradient);
    }
}

/* --- the call ------------------------------------------------------------------------------------------ */

/* Chunks of equal size, of which none is larger than planned: they depend on how many rows are valid. */
static void run_chunks(linear_run *run, int64_t valid) {
    const int64_t chunks = valid == 0 ? 0 : (valid - 1) / run->layout->chunk_rows + 1;
    int64_t done = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        run->chunk_first = done;
        run->chunk.rows = (valid - done) / (chunks - chunk);
        run->chunk.adds = run->call->args.accumulate || chunk > 0;
        run_chunk(run);
        done += run->chunk.rows;
    }
}

static int64_t list_valid_rows(const linear_run *run) {
    int64_t valid = 0;
    for (int64_t row = 0; row < run->call->args.rows; ++row)
        if (loss_row_is_valid(&run->call->loss, row))
            run->index[valid++] = row;
    return valid;
}

static void clear_ignored_rows(void *context, int64_t first, int64_t end, int worker) {
    (void)worker;
    const linear_run *run = context;
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const size_t element = convert_element_size(args->dtype);
    for (int64_t row = first; row < end; ++row)
        if (!loss_row_is_valid(&run->call->loss, row))
            memset(row_of(args->hidden_gradient, args->hidden_gradient_stride, row, element), 0,
                   (size_t)args->hidden_size * element);
}

/* What no chunk writes to. */
static void clear_the_rest(linear_run *run, int64_t valid) {
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const size_t wide = linear_wide_bytes(run->call);
    if (args->hidden_gradient != NULL)
        for_rows(run, args->rows, clear_ignored_rows);
    if (valid > 0 || args->accumulate)
        return;
    if (args->weight_gradient != NULL)
        memset(args->weight_gradient, 0, (size_t)args->vocab * (size_t)args->hidden_size * wide);
    if (args->bias_gradient != NULL)
        memset(args->bias_gradient, 0, (size_t)args->vocab * wide);
}

/* Where the layout begins. Without rows nothing is laid out, and there may be no workspace. */
static unsigned char *start_of(const linear_call *call, const linear_layout *layout) {
    static _Alignas(LOSS_CACHE_LINE) unsigned char nothing[LOSS_CACHE_LINE];
    if (layout->bytes == 0)
        return nothing;
    const uintptr_t misaligned = (uintptr_t)call->args.workspace % LOSS_CACHE_LINE;
    return (unsigned char *)call->args.workspace + (misaligned == 0 ? 0 : LOSS_CACHE_LINE - misaligned);
}

static void run_all(const linear_call *call, const linear_layout *layout) {
    unsigned char *const start = start_of(call, layout);
    linear_run run = {
        .call = call,
        .layout = layout,
        .plan = loss_plan_of(&call->loss, call->backend),
        .outcomes = (loss_outcome *)(void *)(start + layout->outcomes),
        .index = (int64_t *)(void *)(start + layout->index),
        .chunk =
            {
                .call = call,
                .layout = layout,
                .logits = start + layout->logits,
                .hidden = start + layout->hidden,
                .rooms = start + layout->rooms,
            },
    };
    if (call->blas.hold_threads != NULL)
        call->blas.hold_threads();
    const int64_t valid = list_valid_rows(&run);
    clear_the_rest(&run, valid);
    run_chunks(&run, valid);
    if (call->blas.release_threads != NULL)
        call->blas.release_threads();
    loss_finish(&run.plan, run.outcomes);
}

static visatb_status run_on_cpu(const char *function, const visatb_vitw_linear_loss_args *args) {
    linear_call call;
    linear_layout layout;
    visatb_status status = linear_check_shape(function, args, &call);
    if (status == VISATB_OK)
        status = linear_lay_out(function, &call, &layout);
    if (status != VISATB_OK)
        return status;
    if (call.args.threads == 0) /* there may be more CPUs to run on than when the workspace was planned */
        linear_fit(&call, &layout);
    status = linear_check_contents(function, &call, layout.bytes);
    if (status == VISATB_OK)
        status = linear_check_workspace(function, args, layout.bytes);
    if (status == VISATB_OK)
        run_all(&call, &layout);
    return status;
}

static visatb_status plan_on_cpu(const char *function, const visatb_vitw_linear_loss_args *args,
                                 visatb_linear_plan *plan) {
    linear_call call;
    linear_layout layout;
    visatb_status status = linear_check_shape(function, args, &call);
    if (status == VISATB_OK)
        status = linear_lay_out(function, &call, &layout);
    if (status != VISATB_OK)
        return status;
    plan->workspace_bytes = layout.bytes;
    plan->chunk_rows = layout.chunk_rows;
    plan->chunks = layout.chunks;
    plan->product = call.blas.description;
    plan->cpu_path = call.path;
    plan->cuda_path = VISATB_CUDA_AUTO;
    return VISATB_OK;
}

/* --- the entries --------------------------------------------------------------------------------------- */

visatb_status visatb_vitw_linear_loss(const visatb_vitw_linear_loss_args *args) {
    static const char function[] = "visatb_vitw_linear_loss";
    visatb_vitw_linear_loss_args known;
    visatb_status status = linear_copy_args(function, args, &known);
    if (status == VISATB_OK)
        status = loss_check_device(function, known.device);
    if (status != VISATB_OK)
        return status;
    return known.device == VISATB_DEVICE_CUDA ? cuda_vitw_linear_loss(&known) : run_on_cpu(function, &known);
}

visatb_status visatb_vitw_linear_loss_plan(const visatb_vitw_linear_loss_args *args,
                                           visatb_linear_plan *plan) {
    static const char function[] = "visatb_vitw_linear_loss_plan";
    if (plan == NULL)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: plan = NULL; expected a pointer", function);
    if (plan->size < sizeof *plan)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: plan->size = %zu; expected %zu, as VISATB_LINEAR_PLAN_INIT sets it", function,
                         plan->size, sizeof *plan);
    visatb_vitw_linear_loss_args known;
    visatb_status status = linear_copy_args(function, args, &known);
    if (status == VISATB_OK)
        status = loss_check_device(function, known.device);
    if (status != VISATB_OK)
        return status;
    return known.device == VISATB_DEVICE_CUDA ? cuda_vitw_linear_loss_plan(&known, plan)
                                              : plan_on_cpu(function, &known, plan);
}
