/* From a scores file to the numbers of the balance: which runs a form compares, and what came of them. */
#ifndef VISATB_SCORES_BALANCE_RUN_H
#define VISATB_SCORES_BALANCE_RUN_H

#include "scores/scores_file.h"

/* One side of a comparison: the key under "runs", its scores, and whether there is one set a unit. */
typedef struct run_source {
    const char *key;
    const run_scores *runs;
    bool by_unit;
} run_source;

/* What a form compares: contribution from trained and baseline, difficulty from low and high. */
typedef struct form_sources {
    run_source trained;
    run_source baseline;
    run_source low;
    run_source high;
} form_sources;

form_sources form_sources_of(const visatb_scores *scores, visatb_form form);

/* Settings after the caller's options have won over the file's. */
typedef struct balance_request {
    visatb_form form;
    double alphas[3];
    double temperature; /* 0: automatic */
    bool allow_negative_denominator;
} balance_request;

typedef struct balance_result {
    double *contribution; /* [units, units] */
    double *outward;      /* [units], and so the next three */
    double *inward;
    double *difficulty;
    double *weights;
    double *components; /* [3, units]: out, in, difficulty */
    double temperature;
} balance_result;

/* Checks that the runs are complete for the form and computes everything. On failure nothing is left to free.
 */
visatb_status balance_run(const visatb_scores *scores, const balance_request *request,
                          balance_result *result);

void balance_result_free(balance_result *result);

#endif
