/* Difficulty: how far a little training stays behind much training (Eq. 6, 11, 12). */
#include "balance/balance.h"

#include <math.h>

balance_fault balance_difficulty(size_t units, size_t metrics, const balance_metric *layout,
                                 const double *low, const double *high, double *difficulty) {
    for (size_t i = 0; i < units; i++)
        difficulty[i] = 0.0;
    for (size_t m = 0; m < metrics; m++) {
        balance_fault fault = {.metric = m, .unit = layout[m].unit, .before = low[m], .after = high[m]};
        const double worse = layout[m].lower_is_better ? high[m] : low[m];
        const double better = layout[m].lower_is_better ? low[m] : high[m];
        if (better <= 0.0) {
            fault.kind = BALANCE_SCORE_NOT_POSITIVE;
            return fault;
        }
        difficulty[layout[m].unit] += layout[m].share * (1.0 - worse / better);
        if (!isfinite(difficulty[layout[m].unit])) {
            fault.kind = BALANCE_DIFFICULTY_OVERFLOW;
            return fault;
        }
    }
    return (balance_fault){.kind = BALANCE_OK};
}
