/* The rules of rows on a GPU: which of them count, what is wrong with one, and what its gradient is made of.
 * On the CPU they stand in loss/rows.c, where nothing that is wrong comes this far. */
#ifndef VISATB_CUDA_ROW_RULES_CUH
#define VISATB_CUDA_ROW_RULES_CUH

#include "cuda/kernels.h"
#include "cuda/primitives.cuh"

#include <float.h>
#include <math.h>

DEVICE double value_of(const cuda_scalar &scalar) {
    if (scalar.doubles != NULL)
        return *scalar.doubles;
    return scalar.floats != NULL ? (double)*scalar.floats : scalar.value;
}

/* A row of the call. */
struct row_facts {
    int64_t row;
    int64_t label;
    double weight;
    int code;   /* VISATB_REPORT_OK, or what is wrong besides its logits */
    bool valid; /* its label is not ignore_index */
};

/* Of a row with this label and task id. */
DEVICE row_facts judge(const cuda_rows &rows, int64_t row, int64_t label, int32_t task) {
    row_facts facts;
    facts.row = row;
    facts.label = label;
    facts.weight = 0;
    facts.code = VISATB_REPORT_OK;
    facts.valid = facts.label != rows.ignore_index;
    if (!facts.valid)
        return facts;
    if (facts.label < 0 || facts.label >= rows.vocab) {
        facts.code = VISATB_REPORT_LABEL;
        return facts;
    }
    if (task < 0 || task >= rows.tasks) {
        facts.code = VISATB_REPORT_TASK_ID;
        return facts;
    }
    const float weight = rows.task_weights[task];
    if (weight >= 0 && weight <= FLT_MAX)
        facts.weight = (double)weight;
    else
        facts.code = VISATB_REPORT_TASK_WEIGHT;
    return facts;
}

/* The task id is read at once, and not when the label turns out to be valid: so both are under way together.
 */
DEVICE row_facts facts_of(const cuda_rows &rows, int64_t row) {
    const int64_t label = rows.labels[row];
    const int32_t task = rows.task_ids[row];
    return judge(rows, row, label, task);
}

/* The facts of COUNT rows, `step` apart, as far as they are before `end`: all reads are under way before one
 * is waited for. */
template <int COUNT>
DEVICE void facts_of_some(const cuda_rows &rows, int64_t first, int64_t step, int64_t end,
                          row_facts (&facts)[COUNT]) {
    int64_t labels[COUNT];
    int32_t tasks[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        const bool is_there = first + i * step < end;
        labels[i] = is_there ? rows.labels[first + i * step] : rows.ignore_index;
        tasks[i] = is_there ? rows.task_ids[first + i * step] : 0;
    }
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        facts[i] = judge(rows, first + i * step, labels[i], tasks[i]);
}

/* A row that no row of the call stands behind. */
DEVICE row_facts no_facts() {
    row_facts facts;
    facts.row = -1;
    facts.label = -1;
    facts.weight = 0;
    facts.code = VISATB_REPORT_OK;
    facts.valid = false;
    return facts;
}

/* D, as the step has it, or else as it was given. */
DEVICE double denominator_of(const cuda_scalar &given, const cuda_step *step) {
    return step != NULL ? step->denominator : value_of(given);
}

/* Whether something can be divided by D; 0 will do where no row has a weight, and there is nothing to divide.
 */
DEVICE bool is_denominator(double denominator) {
    return denominator >= 0 && denominator <= DBL_MAX;
}

/* What a row's gradient is multiplied by besides its weight; NaN where no row has a gradient. */
DEVICE double gradient_scale_of(const cuda_loss &loss) {
    const double scale = value_of(loss.grad_scale);
    if (loss.step != NULL && loss.step->first_beyond >= 0)
        return NAN;
    if (!loss.divides)
        return scale;
    const double denominator = denominator_of(loss.denominator, loss.step);
    return is_denominator(denominator) && denominator > 0 ? scale / denominator : NAN;
}

DEVICE cuda_outcome spoiled_outcome(int code) {
    cuda_outcome outcome;
    outcome.loss = NAN;
    outcome.nll = NAN;
    outcome.lse = NAN;
    outcome.code = code;
    return outcome;
}

#endif
