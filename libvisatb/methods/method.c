/* The public functions but those of the state: what they are given is checked here. */
#include "methods/method.h"
#include "balance/balance.h"
#include "common/error.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

bool method_reads_losses(visatb_method_kind kind) {
    return kind == VISATB_METHOD_DWA || kind == VISATB_METHOD_IGBV1;
}

double method_ratio(double a, double b) {
    if (a == METHOD_ABSENT || b == METHOD_ABSENT || b == 0.0)
        return 1.0;
    /* A softmax takes no infinity. */
    return fmin(a / b, DBL_MAX);
}

static visatb_status check_options(const char *function, const visatb_method_options *options) {
    if (!options)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: options is NULL; expected what the method is made from",
                         function);
    if (options->size != sizeof *options)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: options->size = %zu; expected %zu (start from VISATB_METHOD_OPTIONS_INIT)",
                         function, options->size, sizeof *options);
    if (options->kind < VISATB_METHOD_EW || options->kind > VISATB_METHOD_IGBV1)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: kind = %d; expected a visatb_method_kind", function,
                         (int)options->kind);
    if (options->tasks == 0)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: tasks = 0; expected 1 or more", function);
    if (options->window < 1)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: window = %" PRId64 "; expected 1 or more", function,
                         options->window);
    if (!isfinite(options->temperature) || options->temperature <= 0.0)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: temperature = %g; expected a finite number above 0",
                         function, options->temperature);
    if (options->base_first < 0)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: base_first = %" PRId64 "; expected 0 or more", function,
                         options->base_first);
    if (options->base_end <= options->base_first)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: base_end = %" PRId64 "; expected more than base_first = %" PRId64, function,
                         options->base_end, options->base_first);
    return VISATB_OK;
}

/* Without what the kind does not read, so that methods that do the same are made from the same. */
static visatb_method_options as_read(const visatb_method_options *options) {
    visatb_method_options read = {.size = options->size, .kind = options->kind, .tasks = options->tasks};
    switch (options->kind) {
    case VISATB_METHOD_RLW: read.seed = options->seed; break;
    case VISATB_METHOD_DWA:
        read.window = options->window;
        read.temperature = options->temperature;
        break;
    case VISATB_METHOD_IGBV1:
        read.base_first = options->base_first;
        read.base_end = options->base_end;
        break;
    case VISATB_METHOD_EW:
    case VISATB_METHOD_TLA: break;
    }
    return read;
}

/* How many steps' losses a method keeps. */
static uint64_t rows_of(const visatb_method_options *options) {
    switch (options->kind) {
    case VISATB_METHOD_DWA: return 2 * (uint64_t)options->window;
    case VISATB_METHOD_IGBV1: return 2;
    case VISATB_METHOD_EW:
    case VISATB_METHOD_TLA:
    case VISATB_METHOD_RLW: break;
    }
    return 0;
}

visatb_status visatb_method_create(const visatb_method_options *options, visatb_method **method) {
    static const char function[] = "visatb_method_create";
    visatb_status status = check_options(function, options);
    if (status != VISATB_OK)
        return status;
    if (!method)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: method is NULL; expected a place for the handle",
                         function);
    const uint64_t rows = rows_of(options);
    /* With room for the counts and for what a state has besides. */
    if (options->tasks > PTRDIFF_MAX / 2 / sizeof(double) / (rows + 1))
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: tasks = %zu, window = %" PRId64 "; expected losses that fit into memory",
                         function, options->tasks, options->window);
    visatb_method *const created = calloc(1, sizeof *created);
    if (!created)
        return error_out_of_memory(function);
    created->options = as_read(options);
    created->losses_count = (size_t)rows * options->tasks;
    created->counts_count = options->kind == VISATB_METHOD_IGBV1 ? options->tasks : 0;
    if (created->losses_count > 0)
        created->losses = malloc(created->losses_count * sizeof *created->losses);
    if (created->counts_count > 0)
        created->counts = calloc(created->counts_count, sizeof *created->counts);
    if ((created->losses_count > 0 && !created->losses) || (created->counts_count > 0 && !created->counts)) {
        visatb_method_destroy(created);
        return error_out_of_memory(function);
    }
    for (size_t k = 0; k < created->losses_count; k++)
        created->losses[k] = METHOD_ABSENT;
    *method = created;
    return VISATB_OK;
}

void visatb_method_destroy(visatb_method *method) {
    if (!method)
        return;
    free(method->losses);
    free(method->counts);
    free(method);
}

visatb_status method_check(const char *function, const visatb_method *method) {
    if (method)
        return VISATB_OK;
    return error_set(VISATB_ERROR_ARGUMENT, "%s: method is NULL; expected one of visatb_method_create",
                     function);
}

static visatb_status check_tokens(const char *function, const int64_t *task_tokens, size_t tasks) {
    if (!task_tokens)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: task_tokens is NULL; expected %zu values", function,
                         tasks);
    for (size_t task = 0; task < tasks; task++) {
        if (task_tokens[task] < 0)
            return error_set(VISATB_ERROR_ARGUMENT, "%s: task_tokens[%zu] = %" PRId64 "; expected 0 or more",
                             function, task, task_tokens[task]);
    }
    return VISATB_OK;
}

visatb_status visatb_method_weights(const visatb_method *method, const int64_t *task_tokens,
                                    double *weights) {
    static const char function[] = "visatb_method_weights";
    visatb_status status = method_check(function, method);
    if (status == VISATB_OK && method->options.kind == VISATB_METHOD_TLA)
        status = check_tokens(function, task_tokens, method->options.tasks);
    if (status == VISATB_OK && !weights)
        status = error_set(VISATB_ERROR_ARGUMENT, "%s: weights is NULL; expected an array for the result",
                           function);
    if (status != VISATB_OK)
        return status;

    const visatb_method_options *const options = &method->options;
    double temperature = 1.0;
    switch (options->kind) {
    case VISATB_METHOD_EW:
        for (size_t task = 0; task < options->tasks; task++)
            weights[task] = 1.0;
        return VISATB_OK;
    case VISATB_METHOD_TLA:
        for (size_t task = 0; task < options->tasks; task++)
            weights[task] = task_tokens[task] > 0 ? 1.0 / (double)task_tokens[task] : 0.0;
        return VISATB_OK;
    case VISATB_METHOD_RLW: rlw_values(options->seed, method->steps, options->tasks, weights); break;
    case VISATB_METHOD_DWA:
        dwa_values(method, weights);
        temperature = options->temperature;
        break;
    case VISATB_METHOD_IGBV1: igb_values(method, weights); break;
    }
    balance_softmax(options->tasks, weights, 1.0, temperature, weights);
    return VISATB_OK;
}

static visatb_status check_losses(const char *function, const double *task_nll, const int64_t *task_tokens,
                                  size_t tasks) {
    if (!task_nll)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: task_nll is NULL; expected %zu values", function, tasks);
    const visatb_status status = check_tokens(function, task_tokens, tasks);
    for (size_t task = 0; status == VISATB_OK && task < tasks; task++) {
        if (!isfinite(task_nll[task]) || task_nll[task] < 0.0)
            return error_set(VISATB_ERROR_ARGUMENT,
                             "%s: task_nll[%zu] = %g; expected a finite number of 0 or more, or 0 and no "
                             "tokens for a task whose loss is to be left out",
                             function, task, task_nll[task]);
        if (task_nll[task] > 0.0 && task_tokens[task] == 0)
            return error_set(VISATB_ERROR_ARGUMENT,
                             "%s: task_nll[%zu] = %g with task_tokens[%zu] = 0; expected 0 without a token",
                             function, task, task_nll[task], task);
    }
    return status;
}

visatb_status visatb_method_update(visatb_method *method, const double *task_nll,
                                   const int64_t *task_tokens) {
    static const char function[] = "visatb_method_update";
    visatb_status status = method_check(function, method);
    if (status != VISATB_OK)
        return status;
    if (method_reads_losses(method->options.kind)) {
        const size_t tasks = method->options.tasks;
        status = check_losses(function, task_nll, task_tokens, tasks);
        if (status != VISATB_OK)
            return status;
        for (size_t task = 0; task < tasks; task++) {
            const double loss =
                task_tokens[task] > 0 ? task_nll[task] / (double)task_tokens[task] : METHOD_ABSENT;
            (method->options.kind == VISATB_METHOD_DWA ? dwa_take : igb_take)(method, task, loss);
        }
    }
    /* Only a made-up state comes to the end; numbers that began anew would not fit what was told. */
    if (method->steps < UINT64_MAX)
        method->steps++;
    return VISATB_OK;
}
