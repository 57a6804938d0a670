/* The public functions from scores to a weights handle, and what a caller asks of it. */
#include "scores/file.h"
#include "scores/warnings.h"
#include "scores/weights_document.h"

#include "balance/balance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static visatb_status check_alphas(const char *function, const double *alphas) {
    for (int k = 0; k < 3; k++) {
        if (!isfinite(alphas[k]) || alphas[k] < 0.0)
            return error_set(VISATB_ERROR_ARGUMENT,
                             "%s: options->alphas[%d] = %g; expected a finite number of 0 or more", function,
                             k, alphas[k]);
    }
    double sum = 0.0;
    if (balance_alphas_fit(alphas, &sum))
        return VISATB_OK;
    return error_set(VISATB_ERROR_ARGUMENT, "%s: options->alphas sum to %g; expected 1 within %g", function,
                     sum, BALANCE_ALPHA_TOLERANCE);
}

static visatb_status check_options(const char *function, const visatb_weights_options *options) {
    if (options->size != sizeof *options)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: options->size = %zu; expected %zu (start from VISATB_WEIGHTS_OPTIONS_INIT)",
                         function, options->size, sizeof *options);
    if ((int)options->form < VISATB_FORM_OF_FILE || options->form > VISATB_FORM_PRECISE)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: options->form = %d; expected a visatb_form", function,
                         (int)options->form);
    if (options->temperature && !(isfinite(*options->temperature) && *options->temperature >= 0.0))
        return error_set(
            VISATB_ERROR_ARGUMENT,
            "%s: options->temperature = %g; expected a finite number above 0, or 0 for automatic", function,
            *options->temperature);
    if (options->scores_sha256 &&
        (strlen(options->scores_sha256) != 64 || strspn(options->scores_sha256, "0123456789abcdef") != 64))
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: options->scores_sha256 = \"%s\"; expected 64 lower-case hexadecimal digits",
                         function, options->scores_sha256);
    return options->alphas ? check_alphas(function, options->alphas) : VISATB_OK;
}

/* The file's settings, and the options that win over them. */
static balance_request request_of(const visatb_scores *scores, const visatb_weights_options *options) {
    const settings *const file = &scores->settings;
    balance_request request = {.form = file->form, .temperature = file->temperature};
    memcpy(request.alphas, options->alphas ? options->alphas : file->alphas, sizeof request.alphas);
    if (options->form != VISATB_FORM_OF_FILE)
        request.form = options->form;
    if (options->temperature)
        request.temperature = *options->temperature;
    request.allow_negative_denominator = options->allow_negative_denominator != 0;
    return request;
}

/* A handle on the document, which it takes. */
static visatb_status wrap(const char *function, json_t *root, visatb_weights **weights) {
    visatb_weights *const result = calloc(1, sizeof *result);
    char *const text = root && result ? json_document_text(root) : NULL;
    if (!text) {
        free(result);
        json_decref(root);
        return error_out_of_memory(function);
    }
    result->root = root;
    result->text = text;
    *weights = result;
    return VISATB_OK;
}

visatb_status visatb_weights_compute(const visatb_scores *scores, const visatb_weights_options *options,
                                     visatb_weights **weights) {
    static const char function[] = "visatb_weights_compute";
    const visatb_weights_options defaults = VISATB_WEIGHTS_OPTIONS_INIT;
    if (!scores || !weights)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: %s is NULL", function, scores ? "weights" : "scores");
    if (!options)
        options = &defaults;
    visatb_status status = check_options(function, options);
    if (status != VISATB_OK)
        return status;

    const balance_request request = request_of(scores, options);
    balance_result result;
    status = balance_run(scores, &request, &result);
    if (status != VISATB_OK)
        return status;
    json_t *const warnings = warnings_of(scores, &request, &result);
    json_t *const root = weights_document(scores, &request, &result, warnings,
                                          options->scores_sha256 ? options->scores_sha256 : scores->sha256);
    balance_result_free(&result);
    return wrap(function, root, weights);
}

void visatb_weights_destroy(visatb_weights *weights) {
    if (!weights)
        return;
    json_decref(weights->root);
    free(weights->text);
    free(weights);
}

static visatb_status check_handle(const char *function, const visatb_weights *weights, const char *name,
                                  const void *other) {
    if (weights && other)
        return VISATB_OK;
    return error_set(VISATB_ERROR_ARGUMENT, "%s: %s is NULL", function, weights ? name : "weights");
}

/* Entry `index` of the document's array `key`. */
static visatb_status entry(const char *function, const visatb_weights *weights, const char *key, size_t index,
                           const json_t **value) {
    const visatb_status status = check_handle(function, weights, key, value);
    if (status != VISATB_OK)
        return status;
    const json_t *const array = json_object_get(weights->root, key);
    if (index >= json_array_size(array))
        return error_set(VISATB_ERROR_ARGUMENT, "%s: index %zu; expected one below %zu", function, index,
                         json_array_size(array));
    *value = json_array_get(array, index);
    return VISATB_OK;
}

static visatb_status count(const char *function, const visatb_weights *weights, const char *key,
                           size_t *out) {
    const visatb_status status = check_handle(function, weights, key, out);
    if (status == VISATB_OK)
        *out = json_array_size(json_object_get(weights->root, key));
    return status;
}

visatb_status visatb_weights_count(const visatb_weights *weights, size_t *tasks) {
    return count("visatb_weights_count", weights, "tasks", tasks);
}

visatb_status visatb_weights_warning_count(const visatb_weights *weights, size_t *warnings) {
    return count("visatb_weights_warning_count", weights, "warnings", warnings);
}

visatb_status visatb_weights_task(const visatb_weights *weights, size_t index, const char **name,
                                  double *weight) {
    const json_t *value = NULL;
    const visatb_status status = entry("visatb_weights_task", weights, "tasks", index, &value);
    if (status != VISATB_OK)
        return status;
    const char *const found = json_string_value(value);
    if (name)
        *name = found;
    if (weight)
        *weight = json_number_value(json_object_get(json_object_get(weights->root, "weights"), found));
    return VISATB_OK;
}

visatb_status visatb_weights_warning(const visatb_weights *weights, size_t warning, const char **code,
                                     const char **path, const char **message) {
    const json_t *value = NULL;
    const visatb_status status = entry("visatb_weights_warning", weights, "warnings", warning, &value);
    if (status != VISATB_OK)
        return status;
    if (code)
        *code = json_string_value(json_object_get(value, "code"));
    if (path)
        *path = json_string_value(json_object_get(value, "path"));
    if (message)
        *message = json_string_value(json_object_get(value, "message"));
    return VISATB_OK;
}

visatb_status visatb_weights_json(const visatb_weights *weights, const char **text, size_t *length) {
    const visatb_status status = check_handle("visatb_weights_json", weights, "text", text);
    if (status != VISATB_OK)
        return status;
    *text = weights->text;
    if (length)
        *length = strlen(weights->text);
    return VISATB_OK;
}

visatb_status visatb_weights_write(const visatb_weights *weights, const char *path) {
    static const char function[] = "visatb_weights_write";
    const visatb_status status = check_handle(function, weights, "path", path);
    return status == VISATB_OK ? file_write(function, path, weights->text, strlen(weights->text)) : status;
}
