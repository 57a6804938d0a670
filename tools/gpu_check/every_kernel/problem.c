#include "problem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static tally counted;

void *host_take(size_t count, size_t bytes) {
    void *memory = calloc(count == 0 ? 1 : count, bytes);
    if (memory == NULL) {
        (void)fprintf(stderr, "every_kernel: no memory\n");
        exit(1);
    }
    return memory;
}

static uint64_t mixed(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
    return value ^ (value >> 31);
}

double number_at(int array, int64_t place) {
    const uint64_t random = mixed((uint64_t)place * 2654435761U + (uint64_t)array * 40503U + 1U);
    return ((double)(random % 81U) - 40.0) / 8.0;
}

rows rows_make(int64_t count, int64_t vocab) {
    rows made = {.count = count, .vocab = vocab, .task_weights = {0.5F, 1.25F, 0.0F}};
    made.labels = host_take((size_t)count, sizeof *made.labels);
    made.task_ids = host_take((size_t)count, sizeof *made.task_ids);
    for (int64_t row = 0; row < count; ++row) {
        const bool is_ignored = row % 4 == 2;
        made.labels[row] = is_ignored ? IGNORED : (int64_t)(mixed((uint64_t)row + 7U) % (uint64_t)vocab);
        /* What is ignored may hold anything. */
        made.task_ids[row] = is_ignored ? 99 : (int32_t)(row % 5 == 3 ? 2 : row % 2);
        made.denominator += rows_weight(&made, row);
        made.valid += is_ignored ? 0 : 1;
    }
    return made;
}

void rows_free(rows *made) {
    free(made->labels);
    free(made->task_ids);
}

double rows_weight(const rows *of, int64_t row) {
    return of->labels[row] == IGNORED ? 0.0 : (double)of->task_weights[of->task_ids[row]];
}

void problem_wrong(const char *name, const char *what, double found, double expected) {
    ++counted.checks;
    ++counted.wrong;
    (void)printf("wrong: %s: %s is %.9g, expected %.9g\n", name, what, found, expected);
}

void problem_expect(const char *name, const char *what, double found, double expected, double tolerance) {
    ++counted.checks;
    const bool both_nan = isnan(found) && isnan(expected);
    if (both_nan || fabs(found - expected) <= tolerance)
        return;
    --counted.checks;
    problem_wrong(name, what, found, expected);
}

bool problem_call(const char *name, const char *what, visatb_status found, visatb_status expected) {
    ++counted.checks;
    if (found == expected)
        return true;
    ++counted.wrong;
    (void)printf("wrong: %s: %s: %s: %s\n", name, what, visatb_status_string(found), visatb_last_error());
    return false;
}

tally problem_tally(void) {
    return counted;
}
