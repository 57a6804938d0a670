/* A scores.json in memory: what the reader made of it and the mathematics needs. */
#ifndef VISATB_SCORES_SCORES_FILE_H
#define VISATB_SCORES_SCORES_FILE_H

#include "scores/score_set.h"
#include "scores/settings.h"

/* The runs of one kind: one set of scores a unit, or a single one. */
typedef struct run_scores {
    const json_t *object; /* NULL: the file has no such runs */
    double *values;       /* [units, metrics] or [metrics], NaN where absent; NULL like object */
} run_scores;

struct visatb_scores {
    json_t *root;
    char *file; /* how messages call it */
    char sha256[65];
    task_list list;
    settings settings;
    run_scores base;
    run_scores mini;
    run_scores with_mini;
    run_scores only;
    run_scores mini_only;
};

/* Largest N of a file; on arrays there is no limit. */
#define LARGEST_UNIT_COUNT 1024

#endif
