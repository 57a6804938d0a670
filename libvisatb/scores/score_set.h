/* One run's scores: {task: {metric: number}}. */
#ifndef VISATB_SCORES_SCORE_SET_H
#define VISATB_SCORES_SCORE_SET_H

#include "scores/task_list.h"

/* Reads into values [metrics], NaN where a task is absent. A task that is there has all of its metrics. */
visatb_status score_set_read(json_place *place, const json_t *object, const task_list *list, double *values);

/* Whether every task for which `needs` holds has its scores; the error names the first that has not.
 *   object   the run, NULL if it is absent itself */
visatb_status score_set_require(json_place *place, const json_t *object, const task_list *list,
                                bool (*needs)(const task *, size_t), size_t argument);

#endif
