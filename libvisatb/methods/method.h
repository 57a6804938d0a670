/* A method: what it was made from, how many steps it was told of, and of which losses. */
#ifndef VISATB_METHODS_METHOD_H
#define VISATB_METHODS_METHOD_H

#include "visatb.h"

#include <stdbool.h>

/* In the place of a loss: the task was not in the step. */
#define METHOD_ABSENT (-1.0)

/* Losses are means over the task's tokens of a step: finite and >= 0, or METHOD_ABSENT.
 *   DWA    losses [2 * window, tasks]: those of step s are row s mod 2 * window
 *   IGBV1  losses [2, tasks]: the last, and the mean of the base; counts [tasks]: the steps of that mean */
struct visatb_method {
    visatb_method_options options; /* with 0 for what the kind does not read */
    uint64_t steps;
    size_t losses_count;
    size_t counts_count;
    double *losses;
    uint64_t *counts;
};

/* Refuses NULL in the name of the public function. */
visatb_status method_check(const char *function, const visatb_method *method);

/* Whether the kind reads the losses of its steps. */
bool method_reads_losses(visatb_method_kind kind);

/* a / b for two losses of a task; 1 where there is not both, or b is 0. Finite. */
double method_ratio(double a, double b);

/* What a softmax takes, [tasks]. */
void dwa_values(const visatb_method *method, double *values);
void igb_values(const visatb_method *method, double *values);

/* Standard normal draws, [tasks], a function of the seed and the step. */
void rlw_values(uint64_t seed, uint64_t step, size_t tasks, double *values);

/* Takes a task's loss in the step that is done, whose number `steps` still is. */
void dwa_take(visatb_method *method, size_t task, double loss);
void igb_take(visatb_method *method, size_t task, double loss);

#endif
