/* Improvement: how methods compare over all tasks (Eq. 9, dI, dE). */
#include "balance/balance.h"

#include <math.h>

balance_fault balance_improvement(size_t metrics, const double *scores, const double *baseline,
                                  const bool *lower_is_better, double *improvement) {
    double sum = 0.0;
    for (size_t m = 0; m < metrics; m++) {
        balance_fault fault = {.metric = m, .before = baseline[m], .after = scores[m]};
        if (baseline[m] <= 0.0) {
            fault.kind = BALANCE_SCORE_NOT_POSITIVE;
            return fault;
        }
        const double relative = (scores[m] - baseline[m]) / baseline[m];
        sum += lower_is_better[m] ? -relative : relative;
        if (!isfinite(100.0 * sum)) {
            fault.kind = BALANCE_OVERFLOW;
            return fault;
        }
    }
    *improvement = sum / (double)metrics;
    return (balance_fault){.kind = BALANCE_OK};
}

void balance_improvement_summary(size_t tasks, const double *improvements, double *delta_improvement,
                                 double *delta_error) {
    double sum = 0.0, worsened = 0.0;
    for (size_t i = 0; i < tasks; i++) {
        sum += improvements[i];
        worsened += fmax(0.0, -improvements[i]);
    }
    *delta_improvement = 100.0 * sum / (double)tasks;
    *delta_error = 100.0 * worsened / (double)tasks;
}
