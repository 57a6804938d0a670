#include "scores/warnings.h"
#include "common/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A gain below this share of the tasks' median is close to the noise of a validation set. */
#define WEAK_SIGNAL 0.1

/* The paper's advice for subsets and runs. */
#define FEWEST_MINI_SAMPLES 1000.0
#define FEWEST_LARGE_SAMPLES 10000.0
#define FEWEST_STEPS 100.0

/* The list being made; ok turns false where memory is exhausted. */
typedef struct warning_list {
    json_t *array;
    bool ok;
} warning_list;

static void warn(warning_list *list, const char *code, const json_path *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void warn(warning_list *list, const char *code, const json_path *path, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    text_end_whole(message);
    json_t *const warning =
        json_pack("{s:s, s:s, s:s}", "code", code, "path", path->text, "message", message);
    list->ok = warning && json_array_append_new(list->array, warning) == 0 && list->ok;
}

static json_path path_of_run(const char *key, const char *unit) {
    json_path path;
    json_path_clear(&path);
    json_path_key(&path, "runs");
    json_path_key(&path, key);
    if (unit)
        json_path_key(&path, unit);
    return path;
}

static json_path path_of_key(const char *key) {
    json_path path;
    json_path_clear(&path);
    json_path_key(&path, key);
    return path;
}

static void warn_of_alphas(warning_list *list, const balance_request *request) {
    const double sum = request->alphas[0] + request->alphas[1] + request->alphas[2];
    const json_path path = path_of_key("alphas");
    if (fabs(sum - 1.0) > 1e-9)
        warn(list, "alphas_scaled", &path, "the alphas sum to %.10g; scaled to 1", sum);
}

static void warn_of_numbers(warning_list *list, const visatb_scores *scores, const form_sources *sources,
                            const balance_result *result) {
    const size_t units = scores->list.unit_count;
    const char *const *const names = scores->list.units;
    for (size_t i = 0; i < units; i++) {
        const json_path path = path_of_run(sources->trained.key, names[i]);
        for (size_t j = 0; j < units; j++) {
            if (result->contribution[i * units + j] < 0.0)
                warn(list, "negative_contribution", &path, "negative contribution: %s -> %s", names[i],
                     names[j]);
        }
    }
    for (size_t i = 0; i < units; i++) {
        const json_path path = path_of_run(sources->high.key, names[i]);
        if (result->difficulty[i] < 0.0)
            warn(list, "negative_difficulty", &path, "negative difficulty: %s (%.3g)", names[i],
                 result->difficulty[i]);
    }
    const double *const range = scores->settings.range;
    const json_path path = path_of_key("temperature");
    for (size_t i = 0; i < units; i++) {
        if (result->weights[i] < range[0] || result->weights[i] > range[1])
            warn(list, "weight_out_of_range", &path, "weight outside [%g, %g]: %s (%.3g)", range[0], range[1],
                 names[i], result->weights[i]);
    }
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the values. */
static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare_doubles);
    return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}

/* How much of its score a task owes to training on its own unit, averaged over its metrics; infinite for a
 * score that fell to 0, which is anything but weak. */
static double own_gain(const visatb_scores *scores, const form_sources *sources, const task *member) {
    const double *const after = sources->trained.runs->values + member->unit * scores->list.metric_count;
    const double *const before = sources->baseline.runs->values;
    double sum = 0.0;
    for (size_t k = 0; k < member->metrics; k++) {
        const size_t m = member->first_metric + k;
        sum += fabs(after[m] - before[m]) / fabs(after[m]);
    }
    return sum / (double)member->metrics;
}

static void warn_of_weak_signals(warning_list *list, const visatb_scores *scores,
                                 const form_sources *sources) {
    const size_t tasks = scores->list.task_count;
    double *const gains = malloc(2 * tasks * sizeof *gains);
    if (!gains) {
        list->ok = false;
        return;
    }
    size_t finite = 0;
    for (size_t t = 0; t < tasks; t++) {
        const task *const member = &scores->list.tasks[t];
        gains[t] = member->unit == NO_UNIT ? INFINITY : own_gain(scores, sources, member);
        if (isfinite(gains[t]))
            gains[tasks + finite++] = gains[t];
    }
    const double middle = finite > 0 ? median(gains + tasks, finite) : 0.0;
    for (size_t t = 0; t < tasks; t++) {
        if (!(gains[t] < WEAK_SIGNAL * middle))
            continue;
        const task *const member = &scores->list.tasks[t];
        json_path path = path_of_run(sources->trained.key, scores->list.units[member->unit]);
        json_path_key(&path, member->name);
        warn(list, "weak_signal", &path,
             "weak signal: training on %s moved %s by %.2g%%, less than a tenth of the tasks' median %.2g%%",
             scores->list.units[member->unit], member->name, 100.0 * gains[t], 100.0 * middle);
    }
    free(gains);
}

/* The samples in each unit's subset at one rate, and of the fixed-weight tasks together; NAN where a task
 * does not say how many it has. */
typedef struct subset_sizes {
    double *units;
    double fixed;
    double all;
} subset_sizes;

static void count_subset(const task_list *list, double rate, subset_sizes *sizes) {
    for (size_t u = 0; u < list->unit_count; u++)
        sizes->units[u] = 0.0;
    sizes->fixed = sizes->all = 0.0;
    for (size_t t = 0; t < list->task_count; t++) {
        const task *const member = &list->tasks[t];
        const double count = member->samples > 0.0 && rate > 0.0 ? floor(member->samples * rate) : NAN;
        *(member->unit == NO_UNIT ? &sizes->fixed : &sizes->units[member->unit]) += count;
        sizes->all += count;
    }
}

static void warn_of_subsets(warning_list *list, const task_list *tasks, const subset_sizes *sizes,
                            const char *code, const char *subset, double fewest) {
    for (size_t t = 0, next = 0; t < tasks->task_count && next < tasks->unit_count; t++) {
        /* Units are numbered in the order of their first task, which is where the message points. */
        if (tasks->tasks[t].unit != next)
            continue;
        const size_t unit = next++;
        if (!(sizes->units[unit] < fewest))
            continue;
        json_path path = path_of_key("tasks");
        json_path_index(&path, t);
        json_path_key(&path, "samples");
        warn(list, code, &path, "%s subset of %s: %.0f samples, fewer than %.0f", subset, tasks->units[unit],
             sizes->units[unit], fewest);
    }
}

static void warn_of_steps(warning_list *list, const visatb_scores *scores, const char *key, const char *unit,
                          double samples) {
    const double steps = ceil(samples / scores->settings.sampling.batch_size);
    if (!(steps <= FEWEST_STEPS))
        return;
    const json_path path = path_of_run(key, unit);
    warn(list, "few_steps", &path, "few steps: %s%s%s (%.0f; the paper advises more than %.0f)", key,
         unit ? ":" : "", unit ? unit : "", steps, FEWEST_STEPS);
}

/* The runs of the form: mini joins every unit's mini subset, with_mini puts one unit's large subset in place
 * of its mini one; only and mini_only train one unit. Fixed-weight tasks join every run with their mini
 * subset. */
static void warn_of_runs(warning_list *list, const visatb_scores *scores, visatb_form form,
                         const subset_sizes *mini, const subset_sizes *large) {
    if (scores->settings.sampling.batch_size == 0.0)
        return;
    const bool mixed = form != VISATB_FORM_SIMPLE, alone = form != VISATB_FORM_FULL;
    if (mixed)
        warn_of_steps(list, scores, "mini", NULL, mini->all);
    for (size_t u = 0; u < scores->list.unit_count; u++) {
        const char *const unit = scores->list.units[u];
        if (mixed)
            warn_of_steps(list, scores, "with_mini", unit, mini->all - mini->units[u] + large->units[u]);
        if (alone)
            warn_of_steps(list, scores, "only", unit, mini->fixed + large->units[u]);
        if (alone)
            warn_of_steps(list, scores, "mini_only", unit, mini->fixed + mini->units[u]);
    }
}

static void warn_of_sampling(warning_list *list, const visatb_scores *scores, visatb_form form) {
    const sampling *const rates = &scores->settings.sampling;
    const size_t units = scores->list.unit_count;
    double *const counts = malloc(2 * units * sizeof *counts);
    if (!counts) {
        list->ok = false;
        return;
    }
    subset_sizes mini = {.units = counts}, large = {.units = counts + units};
    count_subset(&scores->list, rates->mini, &mini);
    count_subset(&scores->list, rates->large, &large);
    warn_of_subsets(list, &scores->list, &mini, "few_mini_samples", "mini", FEWEST_MINI_SAMPLES);
    warn_of_subsets(list, &scores->list, &large, "few_large_samples", "large", FEWEST_LARGE_SAMPLES);
    warn_of_runs(list, scores, form, &mini, &large);
    free(counts);
}

json_t *warnings_of(const visatb_scores *scores, const balance_request *request,
                    const balance_result *result) {
    warning_list list = {.array = json_array(), .ok = true};
    if (!list.array)
        return NULL;
    const form_sources sources = form_sources_of(scores, request->form);
    warn_of_alphas(&list, request);
    warn_of_numbers(&list, scores, &sources, result);
    warn_of_weak_signals(&list, scores, &sources);
    warn_of_sampling(&list, scores, request->form);
    if (list.ok)
        return list.array;
    json_decref(list.array);
    return NULL;
}
