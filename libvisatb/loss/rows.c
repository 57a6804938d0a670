/* The walk over the rows. The rules about rows that do not train (ignored, of weight 0, with bad logits)
 * stand here and nowhere else. */
#include "loss/rows.h"

#include "cpu/convert.h"

#include <math.h>

bool loss_row_is_valid(const visatb_vitw_loss_args *args, int64_t row) {
    return args->labels[row] != args->ignore_index;
}

double loss_row_weight(const visatb_vitw_loss_args *args, int64_t row) {
    return (double)args->task_weights[args->task_ids[row]];
}

static loss_row row_of(const visatb_vitw_loss_args *args, int64_t row) {
    const size_t offset = (size_t)(row * args->logits_stride) * convert_element_size(args->dtype);
    return (loss_row){.dtype = args->dtype,
                      .vocab = args->vocab,
                      .label = args->labels[row],
                      .logits = (const unsigned char *)args->logits + offset};
}

static void *gradient_of(const visatb_vitw_loss_args *args, int64_t row) {
    const size_t offset = (size_t)(row * args->gradient_stride) * convert_element_size(args->dtype);
    return (unsigned char *)args->gradient + offset;
}

/* -log p of the label. Each form is accurate where it is used: the first while p >= 1/2, as nll goes to 0;
 * the second beyond, also where p itself underflows. */
static double nll_of(const loss_softmax *softmax) {
    if (softmax->target >= softmax->others)
        return log1p(softmax->others / softmax->target);
    return log(softmax->target + softmax->others) - (softmax->target_logit - softmax->maximum);
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

static void run_ignored_row(const visatb_vitw_loss_args *args, const loss_backend *backend, int64_t index) {
    const loss_row row = row_of(args, index);
    write_row(args, index, 0, 0);
    if (args->gradient != NULL)
        backend->fill(&row, 0, gradient_of(args, index));
}

/* Returns what the row adds to the numerator. */
static double run_valid_row(const loss_plan *plan, const loss_backend *backend, int64_t index,
                            visatb_report *report) {
    const visatb_vitw_loss_args *args = plan->args;
    const loss_row row = row_of(args, index);
    const double weight = loss_row_weight(args, index);

    loss_softmax softmax;
    const bool good = backend->softmax(&row, &softmax);
    const double nll = good ? nll_of(&softmax) : NAN;
    const double lse = good ? softmax.maximum + log(softmax.target + softmax.others) : NAN;
    if (!good && report->code == VISATB_REPORT_OK) {
        report->code = VISATB_REPORT_LOGITS;
        report->first_bad_row = index;
    }

    write_row(args, index, nll, lse);
    add_to_task(args, index, nll);
    if (args->gradient != NULL) {
        void *gradient = gradient_of(args, index);
        if (weight > 0 && good)
            backend->gradient(&row, &softmax, weight * plan->gradient_scale, gradient);
        else
            backend->fill(&row, weight > 0 ? NAN : 0, gradient);
    }
    /* Not weight * nll for every row: 0 * NaN would put the bad logits of an untrained task into the loss. */
    return weight > 0 ? weight * nll : 0;
}

double loss_rows_run(const loss_plan *plan, const loss_backend *backend, visatb_report *report) {
    const visatb_vitw_loss_args *args = plan->args;
    *report = (visatb_report){.code = VISATB_REPORT_OK, .first_bad_row = -1};
    clear_tasks(args);
    double numerator = 0;
    for (int64_t row = 0; row < args->rows; ++row) {
        if (loss_row_is_valid(args, row))
            numerator += run_valid_row(plan, backend, row, report);
        else
            run_ignored_row(args, backend, row);
    }
    return numerator;
}
