/* Improvable gap balancing, version 1: how much of its early loss each task still has. */
#include "methods/method.h"

void igb_values(const visatb_method *method, double *values) {
    const size_t tasks = method->options.tasks;
    const bool begun = method->steps >= (uint64_t)method->options.base_end;
    for (size_t task = 0; task < tasks; task++)
        values[task] = begun ? method_ratio(method->losses[task], method->losses[tasks + task]) : 1.0;
}

void igb_take(visatb_method *method, size_t task, double loss) {
    if (loss == METHOD_ABSENT)
        return;
    method->losses[task] = loss;
    const bool in_base = method->steps >= (uint64_t)method->options.base_first &&
                         method->steps < (uint64_t)method->options.base_end;
    if (!in_base)
        return;
    double *const base = &method->losses[method->options.tasks + task];
    const uint64_t seen = ++method->counts[task];
    /* Never a sum, which could overflow. */
    *base = seen == 1 ? loss : *base + (loss - *base) / (double)seen;
}
