/* The "tasks" of a scores or results file: names, metrics, groups. Strings are borrowed from the JSON
 * document. */
#ifndef VISATB_SCORES_TASK_LIST_H
#define VISATB_SCORES_TASK_LIST_H

#include "scores/json_document.h"

#define NO_UNIT ((size_t)-1)

typedef struct metric {
    const char *name;
    size_t task;
    bool lower_is_better;
} metric;

typedef struct task {
    const char *name;
    const char *group; /* NULL without one */
    size_t first_metric;
    size_t metrics;
    size_t unit; /* NO_UNIT for a fixed-weight task, which stands outside N */
    bool fixed;
    bool zero_shot;
    double fixed_weight;
    double samples; /* 0: not given */
} task;

typedef struct task_list {
    task *tasks;
    size_t task_count;
    metric *metrics;
    size_t metric_count;
    const char **units; /* in the order of their first task */
    size_t unit_count;
} task_list;

/* Which of the optional keys a file may use. */
typedef enum task_list_kind { TASKS_OF_SCORES, TASKS_OF_RESULTS } task_list_kind;

/* Reads root's "tasks". On failure nothing is left to free. */
visatb_status task_list_read(json_place *place, const json_t *root, task_list_kind kind, task_list *list);

void task_list_free(task_list *list);

#endif
