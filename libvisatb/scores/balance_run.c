#include "scores/balance_run.h"
#include "balance/balance.h"
#include "balance/layout.h"

#include <math.h>
#include <stdlib.h>

form_sources form_sources_of(const visatb_scores *scores, visatb_form form) {
    const run_source mini = {"mini", &scores->mini, false};
    const run_source base = {"base", &scores->base, false};
    const run_source with_mini = {"with_mini", &scores->with_mini, true};
    const run_source only = {"only", &scores->only, true};
    const run_source mini_only = {"mini_only", &scores->mini_only, true};
    switch (form) {
    case VISATB_FORM_SIMPLE: return (form_sources){only, base, mini_only, only};
    case VISATB_FORM_PRECISE: return (form_sources){with_mini, mini, mini_only, only};
    case VISATB_FORM_FULL:
    case VISATB_FORM_OF_FILE: break;
    }
    return (form_sources){with_mini, mini, mini, with_mini};
}

static bool is_weighed(const task *member, size_t unused) {
    (void)unused;
    return member->unit != NO_UNIT;
}

static bool is_in_unit(const task *member, size_t unit) {
    return member->unit == unit;
}

static void enter_runs(json_place *place, const visatb_scores *scores, const run_source *source) {
    *place = (json_place){.file = scores->file};
    json_path_key(&place->path, "runs");
    json_path_key(&place->path, source->key);
}

/* Every unit has its run with the scores that are needed: of all tasks, or of the unit's own. */
static visatb_status require(const visatb_scores *scores, const run_source *source, bool all_tasks) {
    json_place place;
    enter_runs(&place, scores, source);
    if (!source->by_unit)
        return score_set_require(&place, source->runs->object, &scores->list, is_weighed, 0);
    if (!source->runs->object)
        return place_error(&place, "missing");
    const size_t mark = place.path.length;
    for (size_t u = 0; u < scores->list.unit_count; u++) {
        const json_t *const run = place_enter(&place, source->runs->object, scores->list.units[u]);
        const visatb_status status =
            score_set_require(&place, run, &scores->list, all_tasks ? is_weighed : is_in_unit, u);
        if (status != VISATB_OK)
            return status;
        json_path_leave(&place.path, mark);
    }
    return VISATB_OK;
}

static visatb_status require_all(const visatb_scores *scores, const form_sources *sources) {
    visatb_status status = require(scores, &sources->baseline, true);
    if (status == VISATB_OK)
        status = require(scores, &sources->trained, true);
    if (status == VISATB_OK)
        status = require(scores, &sources->low, false);
    if (status == VISATB_OK)
        status = require(scores, &sources->high, false);
    return status;
}

/* The weighed metrics, packed without those of fixed-weight tasks. */
typedef struct packed {
    size_t count;
    size_t *index;    /* [count]: which metric of the task list */
    double *trained;  /* [units, count] */
    double *baseline; /* [count], and so the next two */
    double *low;
    double *high;
    resolved_layout layout;
} packed;

static void packed_free(packed *data) {
    free(data->index);
    free(data->trained);
    free(data->baseline);
    free(data->low);
    free(data->high);
    layout_free(&data->layout);
}

/* The layout of the weighed tasks and metrics alone, which are numbered anew. */
static visatb_status pack_layout(const task_list *list, packed *data) {
    size_t *const task_unit = malloc((list->task_count + 1) * sizeof *task_unit);
    size_t *const metric_task = malloc((list->metric_count + 1) * sizeof *metric_task);
    uint8_t *const lower = malloc(list->metric_count + 1);
    visatb_status status = VISATB_OK;
    if (!task_unit || !metric_task || !lower) {
        status = error_out_of_memory("visatb_weights_compute");
        goto done;
    }
    size_t tasks = 0;
    for (size_t t = 0; t < list->task_count; t++) {
        const task *const member = &list->tasks[t];
        if (member->unit == NO_UNIT)
            continue;
        for (size_t k = 0; k < member->metrics; k++) {
            const size_t m = member->first_metric + k;
            data->index[data->count] = m;
            metric_task[data->count] = tasks;
            lower[data->count++] = list->metrics[m].lower_is_better;
        }
        task_unit[tasks++] = member->unit;
    }
    const visatb_layout layout = {.size = sizeof layout,
                                  .units = list->unit_count,
                                  .tasks = tasks,
                                  .metrics = data->count,
                                  .task_unit = task_unit,
                                  .metric_task = metric_task,
                                  .lower_is_better = lower};
    status = layout_resolve("visatb_weights_compute", &layout, &data->layout);
done:
    free(task_unit);
    free(metric_task);
    free(lower);
    return status;
}

/* The score of a packed metric in the run of `unit`, or in the only run there is. */
static double score_of(const visatb_scores *scores, const run_source *source, size_t unit, size_t m) {
    return source->runs->values[(source->by_unit ? unit * scores->list.metric_count : 0) + m];
}

static visatb_status pack(const visatb_scores *scores, const form_sources *sources, packed *data) {
    const size_t units = scores->list.unit_count, metrics = scores->list.metric_count;
    *data = (packed){.index = calloc(metrics, sizeof *data->index),
                     .trained = malloc(units * metrics * sizeof *data->trained),
                     .baseline = malloc(metrics * sizeof *data->baseline),
                     .low = malloc(metrics * sizeof *data->low),
                     .high = malloc(metrics * sizeof *data->high)};
    if (!data->index || !data->trained || !data->baseline || !data->low || !data->high)
        return error_out_of_memory("visatb_weights_compute");
    const visatb_status status = pack_layout(&scores->list, data);
    if (status != VISATB_OK)
        return status;
    for (size_t k = 0; k < data->count; k++) {
        const size_t m = data->index[k], own = data->layout.layout[k].unit;
        for (size_t u = 0; u < units; u++)
            data->trained[u * data->count + k] = score_of(scores, &sources->trained, u, m);
        data->baseline[k] = score_of(scores, &sources->baseline, 0, m);
        data->low[k] = score_of(scores, &sources->low, own, m);
        data->high[k] = score_of(scores, &sources->high, own, m);
    }
    return VISATB_OK;
}

/* Stands at the score of a metric in the run on `unit`. */
static void enter_score(json_place *place, const visatb_scores *scores, const run_source *source, size_t unit,
                        size_t m) {
    const task *const owner = &scores->list.tasks[scores->list.metrics[m].task];
    enter_runs(place, scores, source);
    if (source->by_unit)
        json_path_key(&place->path, scores->list.units[unit]);
    json_path_key(&place->path, owner->name);
    json_path_key(&place->path, scores->list.metrics[m].name);
}

static visatb_status explain(const visatb_scores *scores, const form_sources *sources, const packed *data,
                             balance_fault fault) {
    if (fault.kind == BALANCE_OK)
        return VISATB_OK;
    json_place place = {.file = scores->file};
    if (fault.kind == BALANCE_NO_TEMPERATURE) {
        json_path_key(&place.path, "temperature");
        return place_error(
            &place,
            "no temperature of 4, 2, 1, 0.5, 0.25, 0.125 keeps every weight within [%g, %g]; give "
            "one, or a wider range",
            scores->settings.range[0], scores->settings.range[1]);
    }
    if (fault.kind == BALANCE_MEAN_OVERFLOW) {
        enter_runs(&place, scores, &sources->trained);
        return place_error(&place, "the scores are too far apart for finite contributions");
    }
    const size_t m = data->index[fault.metric];
    const bool lower = scores->list.metrics[m].lower_is_better;
    const char *const unit = scores->list.units[fault.unit];
    if (fault.kind == BALANCE_SCORE_NOT_POSITIVE) {
        enter_score(&place, scores, lower ? &sources->low : &sources->high, fault.unit, m);
        return place_error(&place, "%g is not above 0, and difficulty divides by it (Eq. 6, 11, 12)",
                           lower ? fault.before : fault.after);
    }
    const bool of_difficulty = fault.kind == BALANCE_DIFFICULTY_OVERFLOW;
    enter_score(&place, scores, of_difficulty ? &sources->high : &sources->trained, fault.unit, m);
    if (fault.kind == BALANCE_DENOMINATOR_ZERO)
        return place_error(
            &place,
            "training on %s left its own score at %g (%g in runs.%s): contributions to it would "
            "divide by zero (Eq. 3, 10)",
            unit, fault.after, fault.before, sources->baseline.key);
    if (fault.kind == BALANCE_DENOMINATOR_NEGATIVE)
        return place_error(
            &place,
            "training on %s made its own score worse (%g, after %g in runs.%s): every contribution "
            "to it would change its sign, unless negative denominators are allowed",
            unit, fault.after, fault.before, sources->baseline.key);
    return place_error(&place, "%g and %g are too far apart for a finite result", fault.before, fault.after);
}

static visatb_status allocate_result(size_t units, balance_result *result) {
    *result = (balance_result){.contribution = malloc(units * units * sizeof *result->contribution),
                               .outward = malloc(units * sizeof *result->outward),
                               .inward = malloc(units * sizeof *result->inward),
                               .difficulty = malloc(units * sizeof *result->difficulty),
                               .weights = malloc(units * sizeof *result->weights),
                               .components = malloc(3 * units * sizeof *result->components)};
    if (result->contribution && result->outward && result->inward && result->difficulty && result->weights &&
        result->components)
        return VISATB_OK;
    return error_out_of_memory("visatb_weights_compute");
}

static balance_fault compute(const visatb_scores *scores, const balance_request *request, const packed *data,
                             balance_result *result) {
    const size_t units = scores->list.unit_count;
    balance_fault fault =
        balance_contribution(units, data->count, data->layout.layout, data->trained, data->baseline,
                             request->allow_negative_denominator, result->contribution);
    if (fault.kind != BALANCE_OK)
        return fault;
    fault = balance_difficulty(units, data->count, data->layout.layout, data->low, data->high,
                               result->difficulty);
    if (fault.kind != BALANCE_OK)
        return fault;
    balance_means(units, result->contribution, result->outward, result->inward);
    for (size_t u = 0; u < units; u++) {
        if (!isfinite(result->outward[u]) || !isfinite(result->inward[u]) || !isfinite(result->difficulty[u]))
            return (balance_fault){.kind = BALANCE_MEAN_OVERFLOW};
    }
    const balance_mix mix = {.alphas = {request->alphas[0], request->alphas[1], request->alphas[2]},
                             .temperature = request->temperature,
                             .range_low = scores->settings.range[0],
                             .range_high = scores->settings.range[1]};
    return balance_combine(units, result->outward, result->inward, result->difficulty, &mix, result->weights,
                           result->components, &result->temperature);
}

visatb_status balance_run(const visatb_scores *scores, const balance_request *request,
                          balance_result *result) {
    const form_sources sources = form_sources_of(scores, request->form);
    packed data = {.count = 0};
    *result = (balance_result){.temperature = 0.0};
    visatb_status status = require_all(scores, &sources);
    if (status == VISATB_OK)
        status = pack(scores, &sources, &data);
    if (status == VISATB_OK)
        status = allocate_result(scores->list.unit_count, result);
    if (status == VISATB_OK)
        status = explain(scores, &sources, &data, compute(scores, request, &data, result));
    packed_free(&data);
    if (status != VISATB_OK)
        balance_result_free(result);
    return status;
}

void balance_result_free(balance_result *result) {
    free(result->contribution);
    free(result->outward);
    free(result->inward);
    free(result->difficulty);
    free(result->weights);
    free(result->components);
    *result = (balance_result){.temperature = 0.0};
}
