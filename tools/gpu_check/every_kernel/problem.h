/* Rows of a loss: numbers that every type holds exactly, labels, tasks; and what is found wrong. */
#ifndef EVERY_KERNEL_PROBLEM_H
#define EVERY_KERNEL_PROBLEM_H

#include "visatb.h"

#include <stdbool.h>

enum { TASKS = 3, IGNORED = -100 };

typedef struct rows {
    int64_t count;
    int64_t vocab;
    int64_t *labels; /* every fourth is ignored */
    int32_t *task_ids;
    float task_weights[TASKS]; /* the last is 0 */
    double denominator;        /* the sum over valid rows */
    int64_t valid;
} rows;

rows rows_make(int64_t count, int64_t vocab);
void rows_free(rows *made);
/* Of a row; 0 where it is ignored. */
double rows_weight(const rows *of, int64_t row);

/* A number k / 8, |k| <= 40, for every place of an array; `array` tells arrays apart. */
double number_at(int array, int64_t place);

/* Memory of the host, zeroed; or the program ends. */
void *host_take(size_t count, size_t bytes);

/* Says what is wrong, and counts it. */
void problem_wrong(const char *name, const char *what, double found, double expected);
void problem_expect(const char *name, const char *what, double found, double expected, double tolerance);
/* Whether a call was as expected. */
bool problem_call(const char *name, const char *what, visatb_status found, visatb_status expected);

typedef struct tally {
    int checks;
    int wrong;
} tally;

tally problem_tally(void);

#endif
