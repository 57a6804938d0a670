/* The order of it all: which rows count, then chunk by chunk gather, logits, loss, gradients, and at the end
 * what no chunk could know. What is launched depends on the arguments alone, never on what lies in the GPU's
 * memory, so that it can be captured and replayed. */
#include "common/error.h"
#include "cpu/convert.h"
#include "cuda/check.h"
#include "cuda/context.h"
#include "cuda/cublas.h"
#include "cuda/cuda.h"
#include "cuda/linear.h"
#include "cuda/on_device.h"

typedef struct linear_run {
    const char *function;
    const cuda_linear_call *call;
    cuda_rows rows;
    cuda_matrix hidden;          /* the caller's */
    cuda_matrix hidden_gradient; /* the caller's; start = NULL: none */
    cuda_matrix gathered;
    unsigned char *start; /* of the layout */
    cuda_step *step;
    cuda_outcome *outcomes;
    void *logits;
    void *ones;
    void *weight_gradient; /* the caller's, or its sum; NULL: none */
    void *bias_gradient;
    visatb_dtype head; /* the type of these two */
} linear_run;

/* A chunk's part of the index, and whether the head's gradients hold something already. */
typedef struct linear_chunk {
    const int64_t *index;
    bool adds;
} linear_chunk;

static visatb_status launched(const linear_run *run, const char *what, int error) {
    return runtime_check(run->function, what, error);
}

static visatb_status multiply(const linear_run *run, const cublas_product *product) {
    return cublas_multiply(run->function, run->call->args.context->cublas, product);
}

static bool wants_gradient(const linear_run *run) {
    return run->hidden_gradient.start != NULL || run->weight_gradient != NULL || run->bias_gradient != NULL;
}

/* --- the steps of a chunk --------------------------------------------------------------------------------
 */

static visatb_status gather(const linear_run *run, const linear_chunk *chunk) {
    const cuda_gather gather = {.hidden = run->hidden, .gathered = run->gathered, .index = chunk->index};
    return launched(run, "gathering hidden", cuda_launch_gather(&gather, run->call->args.stream));
}

/* The bias comes first, by a product with ones: it is exact in the logits' type, so that they are rounded
 * once, when the other product is added to it. */
static visatb_status multiply_logits(const linear_run *run) {
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const cuda_linear_layout *layout = &run->call->layout;
    const cublas_product bias = {
        .a_turned = true,
        .rows = layout->chunk_rows,
        .columns = args->vocab,
        .depth = 1,
        .dtype = args->dtype,
        .a = run->ones,
        .a_stride = layout->chunk_rows,
        .b = args->bias,
        .b_stride = args->vocab,
        .c_dtype = args->dtype,
        .c = run->logits,
        .c_stride = layout->logits_stride,
    };
    const cublas_product head = {
        .b_turned = true,
        .accumulate = args->bias != NULL,
        .rows = layout->chunk_rows,
        .columns = args->vocab,
        .depth = args->hidden_size,
        .dtype = args->dtype,
        .a = run->gathered.start,
        .a_stride = layout->hidden_stride,
        .b = args->weight,
        .b_stride = args->weight_stride,
        .c_dtype = args->dtype,
        .c = run->logits,
        .c_stride = layout->logits_stride,
    };
    const visatb_status status = args->bias != NULL ? multiply(run, &bias) : VISATB_OK;
    return status == VISATB_OK ? multiply(run, &head) : status;
}

static visatb_status run_loss(const linear_run *run, const linear_chunk *chunk) {
    const cuda_linear_call *call = run->call;
    const cuda_loss loss = {
        .rows = run->rows,
        .logits_rows = call->layout.chunk_rows,
        .index = chunk->index,
        .dtype = call->args.dtype,
        .logits = run->logits,
        .logits_stride = call->layout.logits_stride,
        .gradient = wants_gradient(run) ? run->logits : NULL,
        .gradient_stride = call->layout.logits_stride,
        .divides = call->args.reduction == VISATB_REDUCTION_MEAN,
        .grad_scale = call->grad_scale,
        .label_smoothing = call->args.label_smoothing,
        .softcap = call->args.softcap,
        .z_loss = call->args.z_loss,
        .step = run->step,
        .outcomes = run->outcomes,
    };
    return launched(run, "computing the loss", cuda_launch_loss(&loss, &call->plan, call->args.stream));
}

static visatb_status multiply_weight_gradient(const linear_run *run, const linear_chunk *chunk) {
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const cuda_linear_layout *layout = &run->call->layout;
    const cuda_forget forget = {.rows = run->rows, .gathered = run->gathered, .index = chunk->index};
    const cublas_product product = {
        .a_turned = true,
        .accumulate = chunk->adds,
        .rows = args->vocab,
        .columns = args->hidden_size,
        .depth = layout->chunk_rows,
        .dtype = args->dtype,
        .a = run->logits,
        .a_stride = layout->logits_stride,
        .b = run->gathered.start,
        .b_stride = layout->hidden_stride,
        .c_dtype = run->head,
        .c = run->weight_gradient,
        .c_stride = args->hidden_size,
    };
    const visatb_status status =
        launched(run, "clearing rows without weight", cuda_launch_forget(&forget, args->stream));
    return status == VISATB_OK ? multiply(run, &product) : status;
}

static visatb_status multiply_bias_gradient(const linear_run *run, const linear_chunk *chunk) {
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const cuda_linear_layout *layout = &run->call->layout;
    const cublas_product product = {
        .accumulate = chunk->adds,
        .rows = 1,
        .columns = args->vocab,
        .depth = layout->chunk_rows,
        .dtype = args->dtype,
        .a = run->ones,
        .a_stride = layout->chunk_rows,
        .b = run->logits,
        .b_stride = layout->logits_stride,
        .c_dtype = run->head,
        .c = run->bias_gradient,
        .c_stride = args->vocab,
    };
    return multiply(run, &product);
}

/* In place of the gathered rows, which nobody reads any more. */
static visatb_status multiply_hidden_gradient(const linear_run *run, const linear_chunk *chunk) {
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const cuda_linear_layout *layout = &run->call->layout;
    const cublas_product product = {
        .rows = layout->chunk_rows,
        .columns = args->hidden_size,
        .depth = args->vocab,
        .dtype = args->dtype,
        .a = run->logits,
        .a_stride = layout->logits_stride,
        .b = args->weight,
        .b_stride = args->weight_stride,
        .c_dtype = args->dtype,
        .c = run->gathered.start,
        .c_stride = layout->hidden_stride,
    };
    const cuda_scatter scatter = {
        .rows = run->rows,
        .gathered = run->gathered,
        .hidden_gradient = run->hidden_gradient,
        .index = chunk->index,
    };
    const visatb_status status = multiply(run, &product);
    if (status != VISATB_OK)
        return status;
    return launched(run, "scattering hidden_gradient", cuda_launch_scatter(&scatter, args->stream));
}

static visatb_status run_chunk(const linear_run *run, const linear_chunk *chunk) {
    visatb_status status = gather(run, chunk);
    if (status == VISATB_OK)
        status = multiply_logits(run);
    if (status == VISATB_OK)
        status = run_loss(run, chunk);
    if (status == VISATB_OK && run->weight_gradient != NULL)
        status = multiply_weight_gradient(run, chunk);
    if (status == VISATB_OK && run->bias_gradient != NULL)
        status = multiply_bias_gradient(run, chunk);
    if (status == VISATB_OK && run->hidden_gradient.start != NULL)
        status = multiply_hidden_gradient(run, chunk);
    return status;
}

/* --- before and after the chunks --------------------------------------------------------------------------
 */

static int64_t *index_of(const linear_run *run) {
    return (int64_t *)(void *)(run->start + run->call->layout.index);
}

static visatb_status count_rows(const linear_run *run) {
    const cuda_linear_call *call = run->call;
    const cuda_count count = {
        .rows = run->rows,
        .computes = call->args.denominator == NULL,
        .given = call->denominator,
        .step = run->step,
        .index = index_of(run),
        .room = call->layout.room,
        .capacity = call->layout.chunks * call->layout.chunk_rows,
        .outcomes = run->outcomes,
    };
    return launched(run, "counting the rows", cuda_launch_count(&count, call->args.stream));
}

static visatb_status prepare_products(const linear_run *run) {
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    const cuda_linear_layout *layout = &run->call->layout;
    const visatb_status status = cublas_begin(run->function, args->context->cublas, args->stream,
                                              run->start + layout->products, CUDA_LINEAR_PRODUCTS_BYTES);
    if (status != VISATB_OK || (args->bias == NULL && args->bias_gradient == NULL))
        return status;
    return launched(run, "writing ones",
                    cuda_launch_ones(run->ones, layout->chunk_rows, args->dtype, args->stream));
}

static visatb_status run_chunks(const linear_run *run) {
    const cuda_linear_layout *layout = &run->call->layout;
    const bool adds = run->call->args.accumulate && !layout->sums;
    visatb_status status = layout->chunks > 0 ? prepare_products(run) : VISATB_OK;
    for (int64_t i = 0; status == VISATB_OK && i < layout->chunks; ++i) {
        const linear_chunk chunk = {.index = index_of(run) + i * layout->chunk_rows, .adds = adds || i > 0};
        status = run_chunk(run, &chunk);
    }
    return status;
}

/* One of the head's gradients, where the products did not write it. */
static visatb_status finish_gradient(const linear_run *run, void *gradient, const void *sum, int64_t count) {
    const cuda_linear_call *call = run->call;
    const cuda_narrow narrow = {
        .sum = sum,
        .out = gradient,
        .count = count,
        .dtype = call->head,
        .adds = call->args.accumulate,
    };
    if (gradient != NULL && call->layout.sums)
        return launched(run, "rounding the head's gradient", cuda_launch_narrow(&narrow, call->args.stream));
    if (gradient != NULL && call->layout.chunks == 0 && !call->args.accumulate)
        return launched(
            run, "clearing the head's gradient",
            runtime_clear(gradient, (size_t)count * convert_element_size(call->head), call->args.stream));
    return VISATB_OK;
}

static visatb_status clear_hidden_gradient(const linear_run *run) {
    const cuda_clear clear = {
        .rows = run->rows,
        .hidden_gradient = run->hidden_gradient,
        .dtype = run->call->args.dtype,
        .step = run->step,
    };
    return launched(run, "clearing hidden_gradient", cuda_launch_clear(&clear, run->call->args.stream));
}

static visatb_status add_up(const linear_run *run) {
    const cuda_sums sums = cuda_sums_of(&run->call->loss, &run->call->denominator, run->step, run->outcomes);
    return launched(run, "adding up the loss", cuda_launch_sums(&sums, run->call->args.stream));
}

static visatb_status run_all(const linear_run *run) {
    const visatb_vitw_linear_loss_args *args = &run->call->args;
    visatb_status status = count_rows(run);
    if (status == VISATB_OK)
        status = run_chunks(run);
    if (status == VISATB_OK)
        status = finish_gradient(run, args->weight_gradient, run->weight_gradient,
                                 args->vocab * args->hidden_size);
    if (status == VISATB_OK)
        status = finish_gradient(run, args->bias_gradient, run->bias_gradient, args->vocab);
    if (status == VISATB_OK && args->hidden_gradient != NULL)
        status = clear_hidden_gradient(run);
    return status == VISATB_OK ? add_up(run) : status;
}

/* --- the call ---------------------------------------------------------------------------------------------
 */

static cuda_matrix matrix_of(const cuda_linear_call *call, const void *start, int64_t rows, int64_t stride) {
    return (cuda_matrix){
        .start = (void *)start,
        .rows = rows,
        .width = call->args.hidden_size,
        .stride = stride,
        .element_bytes = convert_element_size(call->args.dtype),
    };
}

/* The caller's gradient of the head, or the place of its sum. */
static void *head_gradient_of(const cuda_linear_call *call, void *gradient, void *sum) {
    return gradient != NULL && call->layout.sums ? sum : gradient;
}

static linear_run run_of(const char *function, const cuda_linear_call *call) {
    const visatb_vitw_linear_loss_args *args = &call->args;
    const cuda_linear_layout *layout = &call->layout;
    unsigned char *const start = cuda_linear_start(args);
    return (linear_run){
        .function = function,
        .call = call,
        .rows = cuda_rows_of(&call->loss),
        .hidden = matrix_of(call, args->hidden, args->rows, args->hidden_stride),
        .hidden_gradient = matrix_of(call, args->hidden_gradient, args->rows, args->hidden_gradient_stride),
        .gathered = matrix_of(call, start + layout->hidden, layout->chunk_rows, layout->hidden_stride),
        .start = start,
        .step = (cuda_step *)(void *)(start + layout->step),
        .outcomes = (cuda_outcome *)(void *)(start + layout->outcomes),
        .logits = start + layout->logits,
        .ones = start + layout->ones,
        .weight_gradient = head_gradient_of(call, args->weight_gradient, start + layout->weight_sum),
        .bias_gradient = head_gradient_of(call, args->bias_gradient, start + layout->bias_sum),
        .head = layout->sums ? VISATB_DTYPE_FLOAT32 : call->head,
    };
}

static const char of_loss[] = "visatb_vitw_linear_loss";

static visatb_status run_on_current(void *context) {
    cuda_linear_call *call = context;
    visatb_status status = cuda_linear_plan_device(of_loss, call);
    if (status == VISATB_OK)
        status = cuda_linear_check_contents(of_loss, call);
    if (status != VISATB_OK)
        return status;
    const linear_run run = run_of(of_loss, call);
    return run_all(&run);
}

visatb_status cuda_vitw_linear_loss(const visatb_vitw_linear_loss_args *args) {
    cuda_linear_call call;
    const visatb_status status = cuda_linear_check_shape(of_loss, args, &call);
    if (status != VISATB_OK)
        return status;
    if (args->context == NULL)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: context = NULL; expected a context, which visatb_context_create makes",
                         of_loss);
    return cuda_on_device(of_loss, args->context->device.ordinal, run_on_current, &call);
}

visatb_status cuda_vitw_linear_loss_plan(const visatb_vitw_linear_loss_args *args, visatb_linear_plan *plan) {
    static const char function[] = "visatb_vitw_linear_loss_plan";
    cuda_linear_call call;
    visatb_status status = cuda_linear_check_shape(function, args, &call);
    if (status == VISATB_OK)
        status = cuda_linear_plan_device(function, &call);
    if (status != VISATB_OK)
        return status;
    plan->workspace_bytes = call.layout.bytes;
    plan->chunk_rows = call.layout.chunk_rows;
    plan->chunks = call.layout.chunks;
    plan->product = args->context != NULL ? cublas_open()->description : "cuBLAS";
    plan->cpu_path = VISATB_CPU_AUTO;
    plan->cuda_path = call.plan.path;
    return VISATB_OK;
}
