/* The rules about rows that do not train (ignored, of weight 0, with bad logits). */
#include "loss/rows.h"

#include "common/parallel.h"

#include <math.h>

bool loss_row_is_valid(const visatb_vitw_loss_args *args, int64_t row) {
    return args->labels[row] != args->ignore_index;
}

double loss_row_weight(const visatb_vitw_loss_args *args, int64_t row) {
    return (double)args->task_weights[args->task_ids[row]];
}

double loss_sum_of_weights(const visatb_vitw_loss_args *args) {
    double sum = 0;
    for (int64_t row = 0; row < args->rows; ++row)
        if (loss_row_is_valid(args, row))
            sum += loss_row_weight(args, row);
    return sum;
}

loss_plan loss_plan_of(const visatb_vitw_loss_args *args, const loss_backend *backend) {
    const double denominator = args->denominator != NULL ? *args->denominator : loss_sum_of_weights(args);
    const double grad_scale = args->grad_scale != NULL ? (double)*args->grad_scale : 1;
    /* D is 0 only where no row has a weight: then there is nothing to divide. */
    const bool divides = args->reduction == VISATB_REDUCTION_MEAN && denominator > 0;
    const double divisor = divides ? denominator : 1;
    return (loss_plan){
        .args = args,
        .backend = backend,
        .threads = parallel_threads(args->threads),
        .denominator = denominator,
        .divisor = divisor,
        .gradient_scale = grad_scale / divisor,
        .words = {.all = args->vocab},
    };
}

size_t loss_aligned_bytes(size_t bytes) {
    return (bytes + LOSS_CACHE_LINE - 1) / LOSS_CACHE_LINE * LOSS_CACHE_LINE;
}

size_t loss_scratch_bytes(const loss_plan *plan) {
    const visatb_vitw_loss_args *args = plan->args;
    return loss_aligned_bytes(plan->backend->scratch_bytes(args->dtype, args->vocab, args->softcap > 0));
}

static loss_outcome outcome_of(const loss_options *options, const loss_softmax *softmax) {
    const loss_value value = formula_value(options, softmax);
    return (loss_outcome){.nll = value.nll, .lse = value.lse, .loss = value.loss, .bad = 0};
}

/* Of an ignored row too, which has no label. */
static loss_row row_of(const loss_plan *plan, int64_t index, const void *logits) {
    const visatb_vitw_loss_args *args = plan->args;
    loss_row row = {
        .dtype = args->dtype,
        .vocab = args->vocab,
        .label = LOSS_NO_LABEL,
        .logits = logits,
        .softcap = args->softcap,
        .with_sum = args->label_smoothing > 0,
    };
    if (!loss_row_is_valid(args, index))
        return row;
    const int64_t label = args->labels[index] - plan->words.first;
    if (label >= 0 && label < args->vocab)
        row.label = label;
    return row;
}

/* The softmax over all words, of which the row has all or a slice. False for logits that have none. */
static bool softmax_of(const loss_plan *plan, int64_t index, const loss_row *row, loss_softmax *softmax) {
    const loss_words *words = &plan->words;
    if (words->statistics == NULL)
        return plan->backend->softmax(row, softmax) && softmax->largest > -INFINITY;
    /* For a gradient the backend must have seen the row. What the row is worth comes of what all slices told
     * and nothing else, so that it has the same bits in each of them. */
    loss_softmax own = {.reference = 0};
    if (row->gradient != NULL && !plan->backend->softmax(row, &own))
        return false;
    softmax->reference = own.reference;
    softmax->target_slope = own.target_slope;
    return slices_merge(words->statistics + index, words->slices, plan->args->rows, softmax);
}

void loss_measure_row(const loss_plan *plan, int64_t index, const void *logits, float *scratch,
                      slice_statistics *statistics) {
    loss_row row = row_of(plan, index, logits);
    row.scratch = scratch;
    const bool has_label = row.label != LOSS_NO_LABEL;
    loss_softmax softmax;
    if (!loss_row_is_valid(plan->args, index))
        *statistics = slices_tell_of_ignored(row.vocab);
    else if (plan->backend->softmax(&row, &softmax))
        *statistics = slices_tell(&softmax, has_label, row.vocab);
    else
        *statistics = slices_tell_of_bad(has_label, row.vocab);
}

void loss_run_row(const loss_plan *plan, int64_t index, const void *logits, void *gradient, float *scratch,
                  loss_outcome *outcome) {
    const visatb_vitw_loss_args *args = plan->args;
    loss_row row = row_of(plan, index, logits);
    row.gradient = gradient;
    row.scratch = scratch;
    if (!loss_row_is_valid(args, index)) {
        if (gradient != NULL)
            plan->backend->fill(&row, 0);
        return;
    }

    const double weight = loss_row_weight(args, index);
    if (weight == 0)
        row.gradient = NULL;
    loss_softmax softmax;
    const bool good = softmax_of(plan, index, &row, &softmax);
    const loss_options options = {args->label_smoothing, args->z_loss, (double)plan->words.all};
    *outcome =
        good ? outcome_of(&options, &softmax) : (loss_outcome){.nll = NAN, .lse = NAN, .loss = NAN, .bad = 1};
    if (gradient == NULL)
        return;
    row.gradient = gradient;
    if (weight > 0 && good) {
        const loss_terms terms =
            formula_terms(&options, &softmax, outcome->lse, weight * plan->gradient_scale);
        plan->backend->gradient(&row, &softmax, &terms);
    } else {
        plan->backend->fill(&row, weight > 0 ? NAN : 0);
    }
}

static void write_row(const visatb_vitw_loss_args *args, int64_t row, double nll, double lse) {
    if (args->row_nll != NULL)
        args->row_nll[row] = (float)nll;
    if (args->row_lse != NULL)
        args->row_lse[row] = (float)lse;
}

static void add_to_task(const visatb_vitw_loss_args *args, int64_t row, double nll) {
    const int32_t task = args->task_ids[row];
    if (args->task_nll != NULL)
        args->task_nll[task] += nll;
    if (args->task_tokens != NULL)
        args->task_tokens[task] += 1;
}

static void clear_tasks(const visatb_vitw_loss_args *args) {
    for (int64_t task = 0; task < args->tasks; ++task) {
        if (args->task_nll != NULL)
            args->task_nll[task] = 0;
        if (args->task_tokens != NULL)
            args->task_tokens[task] = 0;
    }
}

void loss_finish(const loss_plan *plan, const loss_outcome *outcomes) {
    const visatb_vitw_loss_args *args = plan->args;
    visatb_report report = {.code = VISATB_REPORT_OK, .first_bad_row = -1};
    double numerator = 0;
    clear_tasks(args);
    for (int64_t row = 0; row < args->rows; ++row) {
        if (!loss_row_is_valid(args, row)) {
            write_row(args, row, 0, 0);
            continue;
        }
        const loss_outcome *outcome = &outcomes[row];
        write_row(args, row, outcome->nll, outcome->lse);
        add_to_task(args, row, outcome->nll);
        if (outcome->bad && report.code == VISATB_REPORT_OK)
            report = (visatb_report){.code = VISATB_REPORT_LOGITS, .first_bad_row = row};
        /* Not for every row: 0 * NaN would put the bad logits of an untrained task into the loss. */
        const double weight = loss_row_weight(args, row);
        if (weight > 0)
            numerator += weight * outcome->loss;
    }
    *args->loss = numerator / plan->divisor;
    if (args->numerator != NULL)
        *args->numerator = numerator;
    if (args->denominator_out != NULL)
        *args->denominator_out = plan->denominator;
    if (args->report != NULL)
        *args->report = report;
}
