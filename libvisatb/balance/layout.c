#include "balance/layout.h"
#include "common/error.h"

#include <stdint.h>
#include <stdlib.h>

/* The owner of member `index` in a map that is the identity when it is NULL. */
static size_t owner(const size_t *map, size_t index) {
    return map ? map[index] : index;
}

/* Counts the members of each owner; every owner must have at least one. */
static visatb_status count_members(const char *function, const char *name, const char *what,
                                   const size_t *map, size_t members, size_t owners, size_t *counts) {
    for (size_t k = 0; k < members; k++) {
        const size_t of = owner(map, k);
        if (of >= owners)
            return error_set(VISATB_ERROR_ARGUMENT, "%s: layout->%s[%zu] = %zu; expected a value below %zu",
                             function, name, k, of, owners);
        counts[of]++;
    }
    for (size_t k = 0; k < owners; k++) {
        if (counts[k] == 0)
            return error_set(VISATB_ERROR_ARGUMENT,
                             "%s: layout->%s gives %s %zu nothing; expected at least one", function, name,
                             what, k);
    }
    return VISATB_OK;
}

static visatb_status check_sizes(const char *function, const visatb_layout *layout) {
    if (!layout)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: layout is NULL; expected VISATB_LAYOUT(units)",
                         function);
    if (layout->size != sizeof *layout)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: layout->size = %zu; expected %zu (start from VISATB_LAYOUT)", function,
                         layout->size, sizeof *layout);
    if (layout->units < 2)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: layout->units = %zu; expected 2 or more", function,
                         layout->units);
    const size_t most = PTRDIFF_MAX / sizeof(double) / layout->units;
    if (layout->units > most || layout->tasks > most || layout->metrics > most)
        return error_set(
            VISATB_ERROR_ARGUMENT,
            "%s: layout of %zu units, %zu tasks and %zu metrics; expected one that fits into memory",
            function, layout->units, layout->tasks, layout->metrics);
    return VISATB_OK;
}

visatb_status layout_resolve(const char *function, const visatb_layout *layout, resolved_layout *resolved) {
    visatb_status status = check_sizes(function, layout);
    if (status != VISATB_OK)
        return status;
    const size_t units = layout->units;
    const size_t tasks = layout->tasks ? layout->tasks : units;
    const size_t metrics = layout->metrics ? layout->metrics : tasks;

    size_t *const unit_tasks = calloc(units, sizeof *unit_tasks);
    size_t *const task_metrics = calloc(tasks, sizeof *task_metrics);
    balance_metric *entries = calloc(metrics, sizeof *entries);
    if (!unit_tasks || !task_metrics || !entries) {
        status = error_out_of_memory(function);
        goto done;
    }
    status = count_members(function, "task_unit", "unit", layout->task_unit, tasks, units, unit_tasks);
    if (status == VISATB_OK)
        status =
            count_members(function, "metric_task", "task", layout->metric_task, metrics, tasks, task_metrics);
    if (status != VISATB_OK)
        goto done;

    for (size_t m = 0; m < metrics; m++) {
        const size_t task = owner(layout->metric_task, m);
        const size_t unit = owner(layout->task_unit, task);
        entries[m].unit = unit;
        entries[m].share = 1.0 / ((double)task_metrics[task] * (double)unit_tasks[unit]);
        entries[m].lower_is_better = layout->lower_is_better && layout->lower_is_better[m];
    }
    *resolved = (resolved_layout){.units = units, .metrics = metrics, .layout = entries};
    entries = NULL;
done:
    free(unit_tasks);
    free(task_metrics);
    free(entries);
    return status;
}

void layout_free(resolved_layout *resolved) {
    free(resolved->layout);
}
