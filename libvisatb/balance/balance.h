/*
 * The mathematics from scores to weights, on resolved arrays.
 *
 * Two callers stand above it: arrays.c (the public functions, which speak of indices) and scores/ (which
 * speaks of names and JSON paths). So nothing here writes messages: what goes wrong comes back as a
 * balance_fault.
 */
#ifndef VISATB_BALANCE_BALANCE_H
#define VISATB_BALANCE_BALANCE_H

#include <stdbool.h>
#include <stddef.h>

/* Where each metric stands. `share` is 1 / (metrics of its task * tasks of its unit): a unit's mean over its
 * tasks' means over their metrics is the sum of share * value. */
typedef struct balance_metric {
    size_t unit;
    double share;
    bool lower_is_better;
} balance_metric;

typedef enum balance_fault_kind {
    BALANCE_OK,
    BALANCE_DENOMINATOR_ZERO,
    BALANCE_DENOMINATOR_NEGATIVE,
    BALANCE_SCORE_NOT_POSITIVE,
    BALANCE_OVERFLOW,
    BALANCE_MEAN_OVERFLOW, /* of no single metric */
    BALANCE_DIFFICULTY_OVERFLOW,
    BALANCE_NO_TEMPERATURE,
} balance_fault_kind;

/* What was wrong: the metric, the unit that was trained (its own but for BALANCE_OVERFLOW), and the scores
 * before and after that. */
typedef struct balance_fault {
    balance_fault_kind kind;
    size_t metric;
    size_t unit;
    double before;
    double after;
} balance_fault;

/* A denominator of Eq. 3 smaller than this, relative to its larger term, is rounding noise. */
#define BALANCE_SMALLEST_DENOMINATOR 1e-9

/* How far the alphas may be off 1: the paper prints 0.33 three times. */
#define BALANCE_ALPHA_TOLERANCE 0.02

/* Whether the sum of the alphas is near enough to 1, in decimals as people write them: 0.34 three times is.
 */
bool balance_alphas_fit(const double alphas[3], double *sum);

/* Eq. 3 and 10. trained [units, metrics], baseline [metrics] -> contribution [units, units], diagonal 1. */
balance_fault balance_contribution(size_t units, size_t metrics, const balance_metric *layout,
                                   const double *trained, const double *baseline,
                                   bool allow_negative_denominator, double *contribution);

/* Eq. 4 and 5: means over the other units. */
void balance_means(size_t units, const double *contribution, double *outward, double *inward);

/* Eq. 6, 11, 12. low, high [metrics] -> difficulty [units]. */
balance_fault balance_difficulty(size_t units, size_t metrics, const balance_metric *layout,
                                 const double *low, const double *high, double *difficulty);

/* N softmax(sign * values / temperature). */
void balance_softmax(size_t units, const double *values, double sign, double temperature, double *weights);

typedef struct balance_mix {
    double alphas[3];   /* out, in, difficulty; any positive sum */
    double temperature; /* 0: automatic */
    double range_low;
    double range_high;
} balance_mix;

/* Eq. 8. weights [units], components [3, units]; *temperature is the one that was used. */
balance_fault balance_combine(size_t units, const double *outward, const double *inward,
                              const double *difficulty, const balance_mix *mix, double *weights,
                              double *components, double *temperature);

/* Eq. 9 for one task; the fault's `before` is the baseline score that is not positive. */
balance_fault balance_improvement(size_t metrics, const double *scores, const double *baseline,
                                  const bool *lower_is_better, double *improvement);

/* dI and dE in percent. */
void balance_improvement_summary(size_t tasks, const double *improvements, double *delta_improvement,
                                 double *delta_error);

#endif
