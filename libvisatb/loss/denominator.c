/* What a step is divided by, before its first loss: counted without logits, and summed over ranks. */
#include "common/error.h"
#include "cuda/cuda.h"
#include "loss/check.h"
#include "loss/rows.h"

#include <inttypes.h>
#include <stdio.h>

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

/* --- of these rows ---------------------------------------------------------------------------------------
 */

/* Nothing of the caller's but what is read or written here, so that the rest may hold anything. */
static visatb_vitw_loss_args counted_of(const visatb_vitw_loss_args *args) {
    return (visatb_vitw_loss_args){
        .size = args->size,
        .rows = args->rows,
        .vocab = args->vocab,
        .tasks = args->tasks,
        .labels = args->labels,
        .task_ids = args->task_ids,
        .task_weights = args->denominator_out != NULL ? args->task_weights : NULL,
        .ignore_index = args->ignore_index,
        .denominator_out = args->denominator_out,
        .task_tokens = args->task_tokens,
        .device = args->device,
        .stream = args->stream,
    };
}

static visatb_status check_count(const char *function, const visatb_vitw_loss_args *args,
                                 int32_t accumulate) {
    visatb_status status = loss_check_device(function, args->device);
    if (status == VISATB_OK)
        status = loss_check_count(function, "rows", args->rows, 0);
    if (status == VISATB_OK)
        status = loss_check_count(function, "vocab", args->vocab, 1);
    if (status == VISATB_OK)
        status = loss_check_count(function, "tasks", args->tasks, 1);
    if (status != VISATB_OK)
        return status;
    if (accumulate != 0 && accumulate != 1)
        return ARGUMENT_ERROR("accumulate = %" PRId32 "; expected 0 or 1", accumulate);
    if (args->denominator_out == NULL && args->task_tokens == NULL)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: denominator_out = NULL and task_tokens = NULL; expected a pointer in one of "
                         "them",
                         function);
    if (args->denominator_out != NULL && args->task_weights == NULL)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: task_weights = NULL; expected a pointer, because denominator_out is given",
                         function);
    return loss_check_row_pointers(function, args);
}

static void count_on_cpu(const visatb_vitw_loss_args *args, bool adds) {
    if (args->denominator_out != NULL)
        *args->denominator_out = (adds ? *args->denominator_out : 0) + loss_sum_of_weights(args);
    if (args->task_tokens == NULL)
        return;
    for (int64_t task = 0; !adds && task < args->tasks; ++task)
        args->task_tokens[task] = 0;
    for (int64_t row = 0; row < args->rows; ++row)
        if (loss_row_is_valid(args, row))
            args->task_tokens[args->task_ids[row]] += 1;
}

visatb_status visatb_vitw_denominator(const visatb_vitw_loss_args *args, int32_t accumulate) {
    static const char function[] = "visatb_vitw_denominator";
    visatb_vitw_loss_args known;
    visatb_status status = loss_copy_args(function, "VISATB_VITW_LOSS_ARGS_INIT", args, &known, sizeof known);
    if (status != VISATB_OK)
        return status;
    const visatb_vitw_loss_args counted = counted_of(&known);
    status = check_count(function, &counted, accumulate);
    if (status != VISATB_OK)
        return status;
    if (counted.device == VISATB_DEVICE_CUDA)
        return cuda_vitw_denominator(&counted, accumulate == 1);
    if (counted.task_weights != NULL)
        status = loss_check_task_weights(function, &counted);
    if (status == VISATB_OK)
        status = loss_check_rows(function, &counted);
    if (status == VISATB_OK)
        count_on_cpu(&counted, accumulate == 1);
    return status;
}

/* --- over ranks ------------------------------------------------------------------------------------------
 */

static visatb_status check_array(const char *function, const char *name, const void *array, int64_t count) {
    char count_name[16];
    (void)snprintf(count_name, sizeof count_name, "%s_count", name);
    const visatb_status status = loss_check_count(function, count_name, count, 0);
    if (status == VISATB_OK && count > 0 && array == NULL)
        return ARGUMENT_ERROR("%s = NULL; expected a pointer, because %s = %" PRId64, name, count_name,
                              count);
    return status;
}

visatb_status visatb_sum_over_ranks(double *values, int64_t values_count, int64_t *tokens,
                                    int64_t tokens_count, void *comm, void *stream) {
    static const char function[] = "visatb_sum_over_ranks";
    visatb_status status = check_array(function, "values", values, values_count);
    if (status == VISATB_OK)
        status = check_array(function, "tokens", tokens, tokens_count);
    if (status != VISATB_OK || comm == NULL || (values_count == 0 && tokens_count == 0))
        return status;
    const cuda_rank_sums sums = {
        .values = values_count > 0 ? values : NULL,
        .values_count = values_count,
        .tokens = tokens_count > 0 ? tokens : NULL,
        .tokens_count = tokens_count,
        .comm = comm,
        .stream = stream,
    };
    return cuda_sum_over_ranks(&sums);
}
