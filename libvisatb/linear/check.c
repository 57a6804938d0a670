/* Whatever is wrong with a call is found and said here, before anything is written. What can be said of a
 * call on a GPU too is not only the CPU's. */
#include "linear/linear.h"

#include "common/error.h"
#include "cpu/convert.h"
#include "linear/elements.h"
#include "loss/check.h"

#include <inttypes.h>

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

size_t linear_wide_bytes(const linear_call *call) {
    return convert_element_size(call->loss.dtype);
}

bool linear_wants_gradient(const linear_call *call) {
    return call->args.hidden_gradient != NULL || call->args.weight_gradient != NULL ||
           call->args.bias_gradient != NULL;
}

/* --- what a plan depends on --------------------------------------------------------------------------- */

/* An unknown dtype goes through as it is, for the check that knows them all. */
static visatb_dtype dtype_of_logits(visatb_dtype dtype) {
    return elements_are_narrow(dtype) ? VISATB_DTYPE_FLOAT32 : dtype;
}

visatb_vitw_loss_args linear_loss_on_logits(const visatb_vitw_linear_loss_args *args, visatb_dtype dtype) {
    return (visatb_vitw_loss_args){
        .size = sizeof(visatb_vitw_loss_args),
        .rows = args->rows,
        .vocab = args->vocab,
        .tasks = args->tasks,
        .dtype = dtype,
        .reduction = args->reduction,
        .labels = args->labels,
        .task_ids = args->task_ids,
        .task_weights = args->task_weights,
        .ignore_index = args->ignore_index,
        .denominator = args->denominator,
        .grad_scale = args->grad_scale,
        .label_smoothing = args->label_smoothing,
        .softcap = args->softcap,
        .z_loss = args->z_loss,
        .threads = args->threads,
        .cpu_path = args->cpu_path,
        .team = args->team,
        .loss = args->loss,
        .numerator = args->numerator,
        .denominator_out = args->denominator_out,
        .row_nll = args->row_nll,
        .row_lse = args->row_lse,
        .task_nll = args->task_nll,
        .task_tokens = args->task_tokens,
        .report = args->report,
        .device = args->device,
        .cuda_path = args->cuda_path,
        .workspace = args->workspace,
        .workspace_bytes = args->workspace_bytes,
        .stream = args->stream,
    };
}

static visatb_status check_extent(const char *function, const char *name, int64_t extent, int64_t smallest) {
    if (extent < smallest || extent > BLAS_MOST)
        return ARGUMENT_ERROR("%s = %" PRId64 "; expected a value in [%" PRId64 ", %d]", name, extent,
                              smallest, (int)BLAS_MOST);
    return VISATB_OK;
}

visatb_status linear_check_extents(const char *function, const visatb_vitw_linear_loss_args *args) {
    visatb_status status = check_extent(function, "hidden_size", args->hidden_size, 1);
    if (status == VISATB_OK)
        status = check_extent(function, "vocab", args->vocab, 1);
    if (status != VISATB_OK)
        return status;
    if (args->weight_stride > BLAS_MOST)
        return ARGUMENT_ERROR("weight_stride = %" PRId64 "; expected at most %d", args->weight_stride,
                              (int)BLAS_MOST);
    if (args->max_valid_rows < 0)
        return ARGUMENT_ERROR("max_valid_rows = %" PRId64 "; expected a value >= 0", args->max_valid_rows);
    if (args->accumulate != 0 && args->accumulate != 1)
        return ARGUMENT_ERROR("accumulate = %" PRId32 "; expected 0 or 1", args->accumulate);
    if (args->reserved != 0)
        return ARGUMENT_ERROR("reserved = %" PRId32 "; expected 0", args->reserved);
    return VISATB_OK;
}

visatb_status linear_check_matrices(const char *function, const visatb_vitw_linear_loss_args *args,
                                    visatb_dtype head) {
    const size_t element = convert_element_size(args->dtype);
    const size_t of_head = convert_element_size(head);
    const int64_t size = args->hidden_size;
    const loss_matrix matrices[] = {
        {"hidden", "hidden_size", args->hidden, args->rows, size, args->hidden_stride, element},
        {"weight", "hidden_size", args->weight, args->vocab, size, args->weight_stride, element},
        {"bias", "vocab", args->bias, 1, args->vocab, args->vocab, element},
        {"hidden_gradient", "hidden_size", args->hidden_gradient, args->rows, size,
         args->hidden_gradient_stride, element},
        {"weight_gradient", "hidden_size", args->weight_gradient, args->vocab, size, size, of_head},
        {"bias_gradient", "vocab", args->bias_gradient, 1, args->vocab, args->vocab, of_head},
    };
    visatb_status status = VISATB_OK;
    for (size_t i = 0; status == VISATB_OK && i < sizeof matrices / sizeof *matrices; ++i)
        status = loss_check_matrix(function, &matrices[i]);
    return status;
}

static void set_strides(visatb_vitw_linear_loss_args *args) {
    int64_t *const strides[] = {&args->hidden_stride, &args->weight_stride, &args->hidden_gradient_stride};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; ++i)
        if (*strides[i] == 0)
            *strides[i] = args->hidden_size;
}

visatb_status linear_copy_args(const char *function, const visatb_vitw_linear_loss_args *args,
                               visatb_vitw_linear_loss_args *known) {
    const visatb_status status =
        loss_copy_args(function, "VISATB_VITW_LINEAR_LOSS_ARGS_INIT", args, known, sizeof *known);
    if (status == VISATB_OK)
        set_strides(known);
    return status;
}

/* It must not be passed over: the memory behind the gradients may be too small for what we write. */
static visatb_status check_head_dtype(const char *function, const linear_call *call) {
    const visatb_dtype head = call->args.head_gradient_dtype;
    if (head != (visatb_dtype)0 && head != call->loss.dtype)
        return ARGUMENT_ERROR(
            "head_gradient_dtype = %d; expected 0 or %s (%d), which is what the CPU writes", (int)head,
            call->loss.dtype == VISATB_DTYPE_FLOAT64 ? "VISATB_DTYPE_FLOAT64" : "VISATB_DTYPE_FLOAT32",
            (int)call->loss.dtype);
    return VISATB_OK;
}

visatb_status linear_check_shape(const char *function, const visatb_vitw_linear_loss_args *args,
                                 linear_call *call) {
    call->args = *args;
    call->loss = linear_loss_on_logits(args, dtype_of_logits(args->dtype));
    visatb_status status = loss_check_choices(function, &call->loss, &call->backend);
    if (status == VISATB_OK)
        status = linear_check_extents(function, args);
    if (status == VISATB_OK)
        status = check_head_dtype(function, call);
    if (status == VISATB_OK)
        status = linear_check_matrices(function, args, call->loss.dtype);
    if (status != VISATB_OK)
        return status;
    call->path = VISATB_CPU_PORTABLE;
    if (args->dtype != VISATB_DTYPE_FLOAT64) /* cannot fail: the choices were found good */
        (void)visatb_cpu_path_taken(args->cpu_path, &call->path);
    return blas_find(function, args->dtype, call->path, &call->blas);
}

/* --- the rest ------------------------------------------------------------------------------------------ */

visatb_status linear_check_pointers(const char *function, const visatb_vitw_linear_loss_args *args) {
    if (args->weight == NULL)
        return ARGUMENT_ERROR("%s = NULL; expected a pointer", "weight");
    if (args->rows > 0 && args->hidden == NULL)
        return ARGUMENT_ERROR("hidden = NULL; expected a pointer, because rows = %" PRId64, args->rows);
    return VISATB_OK;
}

/* What a call reads or writes. */
typedef struct memory_range {
    const char *name;
    const void *start; /* NULL: not given */
    size_t bytes;
    bool written;
} memory_range;

static size_t strided_bytes(int64_t rows, int64_t width, int64_t stride, size_t element) {
    return rows == 0 ? 0 : (size_t)((rows - 1) * stride + width) * element;
}

static bool meet(const memory_range *a, const memory_range *b) {
    const uintptr_t a_start = (uintptr_t)a->start;
    const uintptr_t b_start = (uintptr_t)b->start;
    if (a->start == NULL || b->start == NULL || a->bytes == 0 || b->bytes == 0)
        return false;
    return a_start < b_start ? b_start - a_start < a->bytes : a_start - b_start < b->bytes;
}

static visatb_status check_separate(const char *function, const memory_range *ranges, size_t count) {
    for (size_t i = 0; i < count; ++i)
        for (size_t j = 0; ranges[i].written && j < i; ++j)
            if (meet(&ranges[i], &ranges[j]))
                return ARGUMENT_ERROR("%s overlaps %s; expected separate memory", ranges[i].name,
                                      ranges[j].name);
    return VISATB_OK;
}

visatb_status linear_check_overlap(const char *function, const visatb_vitw_linear_loss_args *args,
                                   visatb_dtype head, size_t workspace_bytes) {
    const size_t element = convert_element_size(args->dtype);
    const size_t of_head = convert_element_size(head);
    const size_t rows = (size_t)args->rows;
    const size_t vocab = (size_t)args->vocab;
    const size_t tasks = (size_t)args->tasks;
    const size_t head_bytes = vocab * (size_t)args->hidden_size * of_head;
    const memory_range ranges[] = {
        {"hidden", args->hidden, strided_bytes(args->rows, args->hidden_size, args->hidden_stride, element),
         false},
        {"weight", args->weight, strided_bytes(args->vocab, args->hidden_size, args->weight_stride, element),
         false},
        {"bias", args->bias, vocab * element, false},
        {"labels", args->labels, rows * sizeof *args->labels, false},
        {"task_ids", args->task_ids, rows * sizeof *args->task_ids, false},
        {"task_weights", args->task_weights, tasks * sizeof *args->task_weights, false},
        {"denominator", args->denominator, sizeof *args->denominator, false},
        {"grad_scale", args->grad_scale, sizeof *args->grad_scale, false},
        {"hidden_gradient", args->hidden_gradient,
         strided_bytes(args->rows, args->hidden_size, args->hidden_gradient_stride, element), true},
        {"weight_gradient", args->weight_gradient, head_bytes, true},
        {"bias_gradient", args->bias_gradient, vocab * of_head, true},
        {"row_nll", args->row_nll, rows * sizeof *args->row_nll, true},
        {"row_lse", args->row_lse, rows * sizeof *args->row_lse, true},
        {"loss", args->loss, sizeof *args->loss, true},
        {"numerator", args->numerator, sizeof *args->numerator, true},
        {"denominator_out", args->denominator_out, sizeof *args->denominator_out, true},
        {"task_nll", args->task_nll, tasks * sizeof *args->task_nll, true},
        {"task_tokens", args->task_tokens, tasks * sizeof *args->task_tokens, true},
        {"report", args->report, sizeof *args->report, true},
        {"workspace", args->workspace, workspace_bytes, true},
    };
    return check_separate(function, ranges, sizeof ranges / sizeof *ranges);
}

visatb_status linear_check_workspace(const char *function, const visatb_vitw_linear_loss_args *args,
                                     size_t needed) {
    if (args->workspace_bytes < needed)
        return ARGUMENT_ERROR(
            "workspace_bytes = %zu; expected at least %zu, as visatb_vitw_linear_loss_plan tells",
            args->workspace_bytes, needed);
    if (needed > 0 && args->workspace == NULL)
        return ARGUMENT_ERROR("workspace = NULL; expected %zu bytes of memory", needed);
    return VISATB_OK;
}

static visatb_status check_valid_rows(const char *function, const linear_call *call) {
    const int64_t most = call->args.max_valid_rows;
    int64_t valid = 0;
    for (int64_t row = 0; most > 0 && row < call->args.rows; ++row)
        valid += loss_row_is_valid(&call->loss, row);
    if (valid > most)
        return ARGUMENT_ERROR("max_valid_rows = %" PRId64 "; expected 0 or at least %" PRId64
                              ", the labels that differ from ignore_index",
                              most, valid);
    return VISATB_OK;
}

visatb_status linear_check_contents(const char *function, const linear_call *call, size_t workspace_bytes) {
    visatb_status status = linear_check_pointers(function, &call->args);
    if (status == VISATB_OK)
        status = loss_check_contents(function, &call->loss);
    if (status == VISATB_OK)
        status = linear_check_overlap(function, &call->args, call->loss.dtype, workspace_bytes);
    if (status == VISATB_OK)
        status = check_valid_rows(function, call);
    return status;
}
