/* Dynamic weight averaging: how fast the loss of each task falls, by the means of two windows of steps. */
#include "methods/method.h"

/* The mean over those of the `window` steps from `first` on that have the task; METHOD_ABSENT without any. */
static double window_mean(const visatb_method *method, size_t task, uint64_t first) {
    const uint64_t window = (uint64_t)method->options.window;
    const size_t tasks = method->options.tasks;
    double mean = METHOD_ABSENT;
    uint64_t seen = 0;
    for (uint64_t step = first; step < first + window; step++) {
        const double loss = method->losses[step % (2 * window) * tasks + task];
        if (loss == METHOD_ABSENT)
            continue;
        seen++;
        /* Never a sum, which could overflow. */
        mean = seen == 1 ? loss : mean + (loss - mean) / (double)seen;
    }
    return mean;
}

void dwa_values(const visatb_method *method, double *values) {
    const uint64_t window = (uint64_t)method->options.window;
    const bool begun = method->steps >= 2 * window;
    for (size_t task = 0; task < method->options.tasks; task++) {
        values[task] = begun ? method_ratio(window_mean(method, task, method->steps - window),
                                            window_mean(method, task, method->steps - 2 * window))
                             : 1.0;
    }
}

void dwa_take(visatb_method *method, size_t task, double loss) {
    const uint64_t row = method->steps % (2 * (uint64_t)method->options.window);
    method->losses[row * method->options.tasks + task] = loss;
}
