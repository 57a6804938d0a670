#include "scores/task_list.h"

#include <stdlib.h>
#include <string.h>

static const char *const metric_keys[] = {"name", "higher_is_better"};
static const char *const scores_task_keys[] = {"name", "metrics", "group", "fixed_weight", "samples", "note"};
static const char *const results_task_keys[] = {"name",    "metrics", "group",    "fixed_weight",
                                                "samples", "note",    "zero_shot"};

/* Names seen so far -> true, so that a second one is found without comparing all pairs. */
static visatb_status check_unique(json_place *place, json_t *seen, const char *name, const char *what) {
    if (json_object_get(seen, name))
        return place_error(place, "duplicate %s \"%s\"", what, name);
    return json_object_set_new(seen, name, json_true()) == 0 ? VISATB_OK : error_out_of_memory("tasks");
}

static visatb_status read_name(json_place *place, const json_t *object, json_t *seen, const char *what,
                               const char **name) {
    const size_t mark = place->path.length;
    const char *found = "";
    visatb_status status = place_string(place, place_enter(place, object, "name"), &found);
    if (status == VISATB_OK && found[0] == '\0')
        status = place_error(place, "empty; expected a name");
    if (status == VISATB_OK)
        status = check_unique(place, seen, found, what);
    if (status == VISATB_OK)
        json_path_leave(&place->path, mark);
    *name = found;
    return status;
}

static visatb_status read_metric(json_place *place, const json_t *object, json_t *seen, metric *out) {
    visatb_status status = place_object(place, object);
    if (status == VISATB_OK)
        status = PLACE_KNOWN_KEYS(place, object, metric_keys);
    if (status == VISATB_OK)
        status = read_name(place, object, seen, "metric", &out->name);
    if (status != VISATB_OK)
        return status;
    const size_t mark = place->path.length;
    bool higher = true;
    status = place_boolean(place, place_enter(place, object, "higher_is_better"), &higher);
    out->lower_is_better = !higher;
    if (status == VISATB_OK)
        json_path_leave(&place->path, mark);
    return status;
}

static visatb_status read_metrics(json_place *place, const json_t *object, task_list *list, size_t index) {
    task *const owner = &list->tasks[index];
    owner->first_metric = list->metric_count;
    const size_t mark = place->path.length;
    const json_t *const array = place_enter(place, object, "metrics");
    if (!array && owner->fixed) {
        json_path_leave(&place->path, mark);
        return VISATB_OK;
    }
    visatb_status status = place_array(place, array);
    if (status != VISATB_OK)
        return status;
    owner->metrics = json_array_size(array);
    if (owner->metrics == 0 && !owner->fixed)
        return place_error(place, "empty; expected at least one metric");

    json_t *const seen = json_object();
    if (!seen)
        return error_out_of_memory("tasks");
    for (size_t m = 0; status == VISATB_OK && m < owner->metrics; m++) {
        metric *const out = &list->metrics[list->metric_count++];
        out->task = index;
        const size_t inner = place->path.length;
        json_path_index(&place->path, m);
        status = read_metric(place, json_array_get(array, m), seen, out);
        if (status == VISATB_OK)
            json_path_leave(&place->path, inner);
    }
    json_decref(seen);
    if (status == VISATB_OK)
        json_path_leave(&place->path, mark);
    return status;
}

static visatb_status read_flags(json_place *place, const json_t *object, task *out) {
    const size_t mark = place->path.length;
    const json_t *value = place_enter(place, object, "group");
    visatb_status status = value ? place_string(place, value, &out->group) : VISATB_OK;
    if (status == VISATB_OK && out->group && out->group[0] == '\0')
        status = place_error(place, "empty; expected a group's name, or no group");
    if (status != VISATB_OK)
        return status;
    json_path_leave(&place->path, mark);

    value = place_enter(place, object, "zero_shot");
    status = value ? place_boolean(place, value, &out->zero_shot) : VISATB_OK;
    if (status == VISATB_OK)
        json_path_leave(&place->path, mark);
    return status;
}

static visatb_status read_task(json_place *place, const json_t *object, task_list_kind kind, json_t *seen,
                               task_list *list, size_t index) {
    task *const out = &list->tasks[index];
    visatb_status status = place_object(place, object);
    if (status == VISATB_OK) {
        status = kind == TASKS_OF_SCORES ? PLACE_KNOWN_KEYS(place, object, scores_task_keys)
                                         : PLACE_KNOWN_KEYS(place, object, results_task_keys);
    }
    if (status == VISATB_OK)
        status = read_name(place, object, seen, "task", &out->name);
    if (status == VISATB_OK)
        status = place_optional_number(place, object, "fixed_weight", &number_is_weight, &out->fixed_weight);
    out->fixed = json_object_get(object, "fixed_weight") != NULL;
    if (status == VISATB_OK)
        status = place_optional_number(place, object, "samples", &number_is_count, &out->samples);
    if (status == VISATB_OK)
        status = read_flags(place, object, out);
    if (status == VISATB_OK)
        status = place_optional_string(place, object, "note");
    if (status == VISATB_OK)
        status = read_metrics(place, object, list, index);
    return status;
}

/* Units: a group, or a task without one. Fixed-weight tasks belong to none. */
static visatb_status assign_units(json_place *place, task_list *list) {
    json_t *const known = json_object(); /* unit name -> its first task */
    if (!known)
        return error_out_of_memory("tasks");
    visatb_status status = VISATB_OK;
    for (size_t t = 0; status == VISATB_OK && t < list->task_count; t++) {
        task *const member = &list->tasks[t];
        member->unit = NO_UNIT;
        if (member->fixed && !member->group)
            continue;
        const char *const name = member->group ? member->group : member->name;
        const json_t *const first = json_object_get(known, name);
        if (!first) {
            if (json_object_set_new(known, name, json_integer((json_int_t)t)) != 0)
                status = error_out_of_memory("tasks");
            if (!member->fixed) {
                member->unit = list->unit_count;
                list->units[list->unit_count++] = name;
            }
            continue;
        }
        const task *const other = &list->tasks[json_integer_value(first)];
        json_path_index(&place->path, t);
        if (!member->group || !other->group)
            status = place_error(
                place, "\"%s\" is the name of a task and of a group; names of units must differ", name);
        else if (member->fixed != other->fixed)
            status = place_error(place, "group \"%s\" mixes fixed-weight tasks and others (%s, %s)", name,
                                 other->name, member->name);
        else {
            member->unit = other->unit;
            json_path_leave(&place->path, strlen("tasks"));
        }
    }
    json_decref(known);
    return status;
}

static size_t count_metrics(const json_t *array) {
    size_t count = 0;
    for (size_t t = 0; t < json_array_size(array); t++)
        count += json_array_size(json_object_get(json_array_get(array, t), "metrics"));
    return count;
}

visatb_status task_list_read(json_place *place, const json_t *root, task_list_kind kind, task_list *list) {
    const json_t *const array = place_enter(place, root, "tasks");
    visatb_status status = place_array(place, array);
    if (status != VISATB_OK)
        return status;

    *list = (task_list){.task_count = json_array_size(array)};
    list->tasks = calloc(list->task_count + 1, sizeof *list->tasks);
    list->metrics = calloc(count_metrics(array) + 1, sizeof *list->metrics);
    list->units = calloc(list->task_count + 1, sizeof *list->units);
    json_t *const seen = json_object();
    if (!list->tasks || !list->metrics || !list->units || !seen)
        status = error_out_of_memory("tasks");

    const size_t mark = place->path.length;
    for (size_t t = 0; status == VISATB_OK && t < list->task_count; t++) {
        json_path_index(&place->path, t);
        status = read_task(place, json_array_get(array, t), kind, seen, list, t);
        if (status == VISATB_OK)
            json_path_leave(&place->path, mark);
    }
    if (status == VISATB_OK && kind == TASKS_OF_SCORES)
        status = assign_units(place, list);
    json_decref(seen);
    if (status == VISATB_OK)
        json_path_clear(&place->path);
    else
        task_list_free(list);
    return status;
}

void task_list_free(task_list *list) {
    free(list->tasks);
    free(list->metrics);
    free(list->units);
    *list = (task_list){0};
}
