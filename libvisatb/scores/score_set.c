#include "scores/score_set.h"

#include <math.h>
#include <string.h>

static visatb_status read_task_scores(json_place *place, const json_t *object, const task_list *list,
                                      const task *owner, double *values) {
    visatb_status status = place_object(place, object);
    const size_t mark = place->path.length;
    for (size_t k = 0; status == VISATB_OK && k < owner->metrics; k++) {
        const size_t m = owner->first_metric + k;
        status = place_number(place, place_enter(place, object, list->metrics[m].name), &values[m]);
        if (status == VISATB_OK)
            json_path_leave(&place->path, mark);
    }
    if (status != VISATB_OK || json_object_size(object) == owner->metrics)
        return status;

    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)object, key, value) {
        size_t k = 0;
        while (k < owner->metrics && strcmp(list->metrics[owner->first_metric + k].name, key) != 0)
            k++;
        if (k < owner->metrics)
            continue;
        json_path_key(&place->path, key);
        return place_error(place, "unknown metric of task \"%s\"", owner->name);
    }
    return status;
}

static visatb_status refuse_unknown_task(json_place *place, const json_t *object, const task_list *list) {
    json_t *const rest = json_copy((json_t *)object);
    for (size_t t = 0; rest && t < list->task_count; t++)
        (void)json_object_del(rest, list->tasks[t].name);
    return place_leftover(place, rest, "unknown task; it is not in \"tasks\"");
}

visatb_status score_set_read(json_place *place, const json_t *object, const task_list *list, double *values) {
    visatb_status status = place_object(place, object);
    if (status != VISATB_OK)
        return status;
    const size_t mark = place->path.length;
    size_t found = 0;
    for (size_t m = 0; m < list->metric_count; m++)
        values[m] = NAN;
    for (size_t t = 0; t < list->task_count; t++) {
        const json_t *const scores = place_enter(place, object, list->tasks[t].name);
        if (scores) {
            found++;
            status = read_task_scores(place, scores, list, &list->tasks[t], values);
            if (status != VISATB_OK)
                return status;
        }
        json_path_leave(&place->path, mark);
    }
    return found == json_object_size(object) ? VISATB_OK : refuse_unknown_task(place, object, list);
}

visatb_status score_set_require(json_place *place, const json_t *object, const task_list *list,
                                bool (*needs)(const task *, size_t), size_t argument) {
    if (!object)
        return place_error(place, "missing");
    for (size_t t = 0; t < list->task_count; t++) {
        if (!needs(&list->tasks[t], argument) || json_object_get(object, list->tasks[t].name))
            continue;
        json_path_key(&place->path, list->tasks[t].name);
        return place_error(place, "missing");
    }
    return VISATB_OK;
}
