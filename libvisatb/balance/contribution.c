/* Contribution: what training on one unit does to the scores of every unit (Eq. 3, 4, 5, 10). */
#include "balance/balance.h"

#include <math.h>
#include <string.h>

static balance_fault_kind judge_denominator(double before, double after, bool lower_is_better,
                                            bool allow_negative) {
    const double gain = lower_is_better ? before - after : after - before;
    if (!isfinite(gain))
        return BALANCE_OVERFLOW;
    if (gain == 0.0 || fabs(gain) < BALANCE_SMALLEST_DENOMINATOR * fmax(fabs(before), fabs(after)))
        return BALANCE_DENOMINATOR_ZERO;
    if (gain < 0.0 && !allow_negative)
        return BALANCE_DENOMINATOR_NEGATIVE;
    return BALANCE_OK;
}

balance_fault balance_contribution(size_t units, size_t metrics, const balance_metric *layout,
                                   const double *trained, const double *baseline,
                                   bool allow_negative_denominator, double *contribution) {
    for (size_t m = 0; m < metrics; m++) {
        const double after = trained[layout[m].unit * metrics + m];
        balance_fault fault = {.metric = m, .unit = layout[m].unit, .before = baseline[m], .after = after};
        fault.kind =
            judge_denominator(baseline[m], after, layout[m].lower_is_better, allow_negative_denominator);
        if (fault.kind != BALANCE_OK)
            return fault;
    }
    memset(contribution, 0, units * units * sizeof *contribution);
    for (size_t i = 0; i < units; i++) {
        for (size_t m = 0; m < metrics; m++) {
            const size_t j = layout[m].unit;
            const double gain = trained[j * metrics + m] - baseline[m];
            const double part = (trained[i * metrics + m] - baseline[m]) / gain;
            if (!isfinite(part))
                return (balance_fault){BALANCE_OVERFLOW, m, i, baseline[m], trained[i * metrics + m]};
            contribution[i * units + j] += layout[m].share * part;
        }
        /* 1 by definition; the shares alone may miss it by a rounding. */
        contribution[i * units + i] = 1.0;
    }
    return (balance_fault){.kind = BALANCE_OK};
}

void balance_means(size_t units, const double *contribution, double *outward, double *inward) {
    const double others = (double)(units - 1);
    for (size_t i = 0; i < units; i++)
        outward[i] = inward[i] = 0.0;
    for (size_t i = 0; i < units; i++) {
        for (size_t j = 0; j < units; j++) {
            if (i == j)
                continue;
            outward[i] += contribution[i * units + j];
            inward[j] += contribution[i * units + j];
        }
    }
    for (size_t i = 0; i < units; i++) {
        outward[i] /= others;
        inward[i] /= others;
    }
}
