#include "scores/settings.h"
#include "balance/balance.h"

#include <math.h>
#include <string.h>

static const char *const alpha_keys[3] = {"out", "in", "difficulty"};
static const char *const sampling_keys[] = {"large", "mini", "seed", "batch_size"};

static visatb_status read_form(json_place *place, const json_t *root, visatb_form *form) {
    const char *name = NULL;
    const visatb_status status = place_string(place, place_enter(place, root, "form"), &name);
    if (status != VISATB_OK)
        return status;
    if (strcmp(name, "full") == 0)
        *form = VISATB_FORM_FULL;
    else if (strcmp(name, "simple") == 0)
        *form = VISATB_FORM_SIMPLE;
    else if (strcmp(name, "precise") == 0)
        *form = VISATB_FORM_PRECISE;
    else
        return place_error(place, "unknown form \"%s\"; expected full, simple or precise", name);
    json_path_clear(&place->path);
    return VISATB_OK;
}

static visatb_status read_alphas(json_place *place, const json_t *root, double alphas[3]) {
    const json_t *const object = place_enter(place, root, "alphas");
    if (object) {
        visatb_status status = place_object(place, object);
        if (status == VISATB_OK)
            status = PLACE_KNOWN_KEYS(place, object, alpha_keys);
        const size_t mark = place->path.length;
        for (int k = 0; status == VISATB_OK && k < 3; k++) {
            status = place_number_of(place, place_enter(place, object, alpha_keys[k]), &number_is_share,
                                     &alphas[k]);
            if (status == VISATB_OK)
                json_path_leave(&place->path, mark);
        }
        if (status != VISATB_OK)
            return status;
        double sum = 0.0;
        if (!balance_alphas_fit(alphas, &sum))
            return place_error(place, "the alphas sum to %g; expected 1 within %g", sum,
                               BALANCE_ALPHA_TOLERANCE);
    }
    json_path_clear(&place->path);
    return VISATB_OK;
}

static visatb_status read_temperature(json_place *place, const json_t *root, double *temperature) {
    const json_t *const value = place_enter(place, root, "temperature");
    if (json_is_string(value)) {
        if (strcmp(json_string_value(value), "auto") != 0)
            return place_error(place, "\"%s\"; expected \"auto\" or a number above 0",
                               json_string_value(value));
    } else if (value) {
        const visatb_status status = place_number(place, value, temperature);
        if (status != VISATB_OK)
            return status;
        if (*temperature <= 0.0)
            return place_error(place, "%g; expected \"auto\" or a number above 0", *temperature);
    }
    json_path_clear(&place->path);
    return VISATB_OK;
}

static visatb_status read_range(json_place *place, const json_t *root, double range[2]) {
    const json_t *const array = place_enter(place, root, "range");
    if (array) {
        visatb_status status = place_array(place, array);
        if (status == VISATB_OK && json_array_size(array) != 2)
            status = place_error(place, "%zu entries; expected [low, high]", json_array_size(array));
        const size_t mark = place->path.length;
        for (size_t k = 0; status == VISATB_OK && k < 2; k++) {
            json_path_index(&place->path, k);
            status = place_number(place, json_array_get(array, k), &range[k]);
            if (status == VISATB_OK)
                json_path_leave(&place->path, mark);
        }
        if (status != VISATB_OK)
            return status;
        if (!(range[0] <= 1.0 && range[1] >= 1.0))
            return place_error(place, "[%g, %g] does not contain 1", range[0], range[1]);
    }
    json_path_clear(&place->path);
    return VISATB_OK;
}

static visatb_status read_sampling(json_place *place, const json_t *root, sampling *out) {
    const json_t *const object = place_enter(place, root, "sampling");
    if (object) {
        double seed = 0.0;
        visatb_status status = place_object(place, object);
        if (status == VISATB_OK)
            status = PLACE_KNOWN_KEYS(place, object, sampling_keys);
        if (status == VISATB_OK)
            status = place_optional_number(place, object, "large", &number_is_rate, &out->large);
        if (status == VISATB_OK)
            status = place_optional_number(place, object, "mini", &number_is_rate, &out->mini);
        if (status == VISATB_OK)
            status = place_optional_number(place, object, "batch_size", &number_is_count, &out->batch_size);
        if (status == VISATB_OK)
            status = place_optional_number(place, object, "seed", &number_is_seed, &seed);
        if (status != VISATB_OK)
            return status;
        if (out->large > 0.0 && out->mini > out->large)
            return place_error(place, "mini %g is above large %g; the mini subset lies inside the large one",
                               out->mini, out->large);
    }
    json_path_clear(&place->path);
    return VISATB_OK;
}

/* Names a file of scores a sample; only its type is checked here. */
static visatb_status check_per_sample(json_place *place, const json_t *root) {
    const json_t *const value = place_enter(place, root, "per_sample");
    const char *name = NULL;
    const visatb_status status = value ? place_string(place, value, &name) : VISATB_OK;
    if (status == VISATB_OK)
        json_path_clear(&place->path);
    return status;
}

visatb_status settings_read(json_place *place, const json_t *root, settings *out) {
    *out = (settings){.alphas = {0.25, 0.25, 0.5}, .range = {0.5, 2.0}};
    visatb_status status = read_form(place, root, &out->form);
    if (status == VISATB_OK)
        status = read_alphas(place, root, out->alphas);
    if (status == VISATB_OK)
        status = read_temperature(place, root, &out->temperature);
    if (status == VISATB_OK)
        status = read_range(place, root, out->range);
    if (status == VISATB_OK)
        status = read_sampling(place, root, &out->sampling);
    if (status == VISATB_OK)
        status = check_per_sample(place, root);
    if (status == VISATB_OK)
        status = place_optional_string(place, root, "note");
    if (status == VISATB_OK)
        status = place_optional_string(place, root, "plan");
    return status;
}
