#include "scores/json_document.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "something else";
}

static const char *syntax_problem(const json_error_t *error) {
    switch (json_error_code(error)) {
    case json_error_duplicate_key: return "duplicate key";
    case json_error_numeric_overflow: return "number too large for a double";
    case json_error_invalid_utf8: return "not UTF-8";
    case json_error_stack_overflow: return "nested too deeply";
    case json_error_end_of_input_expected: return "text after the end of the document";
    case json_error_null_character:
    case json_error_null_byte_in_key: return "a NUL character in a string";
    case json_error_premature_end_of_input: return "the document ends too early";
    default: return error->text;
    }
}

/* Files of ours, by the key of their version. */
static const char *const kinds[] = {"visatb_scores", "visatb_weights", "visatb_results", "visatb_evaluation",
                                    "visatb_plan"};

static visatb_status check_version(json_place *place, const json_t *root, const char *kind) {
    double version = 0.0;
    const json_t *const found = place_enter(place, root, kind);
    for (size_t k = 0; !found && k < sizeof kinds / sizeof kinds[0]; k++)
        if (json_object_get(root, kinds[k]))
            return place_error(place, "missing; there is %s, so it is another file", kinds[k]);
    const visatb_status status = place_number(place, found, &version);
    if (status != VISATB_OK)
        return status;
    if (version != 1.0)
        return place_error(place, "unknown version %.17g; expected 1", version);
    json_path_clear(&place->path);
    return VISATB_OK;
}

visatb_status json_document_parse(const char *text, size_t length, const char *kind, json_place *place,
                                  json_t **root) {
    json_path_clear(&place->path);
    /* A byte order mark is no JSON, but editors on Windows put one in front. */
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        length -= 3;
    }
    json_error_t error;
    /* Integers as reals: a score is a number, and one beyond 64 bits is no error. */
    json_t *const parsed =
        json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    if (!parsed) {
        /* Where jansson runs out of memory it mostly says nothing at all. */
        if (json_error_code(&error) == json_error_out_of_memory || error.text[0] == '\0')
            return error_out_of_memory("json_loadb");
        const size_t offset = error.position < 0 ? 0 : (size_t)error.position;
        json_path_of_offset(&place->path, text, offset < length ? offset : length);
        return place_error(place, "%s (line %d, column %d)", syntax_problem(&error), error.line,
                           error.column);
    }
    visatb_status status = place_object(place, parsed);
    if (status == VISATB_OK)
        status = check_version(place, parsed, kind);
    if (status == VISATB_OK)
        *root = parsed;
    else
        json_decref(parsed);
    return status;
}

char *json_document_text(const json_t *root) {
    char *const text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    if (!text)
        return NULL;
    const size_t length = strlen(text);
    char *const with_newline = realloc(text, length + 2);
    if (!with_newline) {
        free(text);
        return NULL;
    }
    memcpy(with_newline + length, "\n", 2);
    return with_newline;
}

json_t *place_enter(json_place *place, const json_t *object, const char *key) {
    json_path_key(&place->path, key);
    return json_object_get(object, key);
}

static visatb_status wrong_type(const json_place *place, const char *expected, const json_t *value) {
    if (!value)
        return place_error(place, "missing");
    return place_error(place, "expected %s, not %s", expected, type_name(value));
}

visatb_status place_object(const json_place *place, const json_t *value) {
    return json_is_object(value) ? VISATB_OK : wrong_type(place, "an object", value);
}

visatb_status place_array(const json_place *place, const json_t *value) {
    return json_is_array(value) ? VISATB_OK : wrong_type(place, "an array", value);
}

visatb_status place_number(const json_place *place, const json_t *value, double *number) {
    if (!json_is_number(value))
        return wrong_type(place, "a number", value);
    *number = json_number_value(value);
    return VISATB_OK;
}

static bool is_weight(double number) {
    return number >= 0.0 && number <= FLT_MAX;
}

static bool is_share(double number) {
    return number >= 0.0;
}

static bool is_count(double number) {
    return number >= 1.0 && number == floor(number);
}

static bool is_seed(double number) {
    return number >= 0.0 && number == floor(number);
}

static bool is_rate(double number) {
    return number > 0.0 && number <= 1.0;
}

const number_rule number_is_weight = {is_weight, "a number from 0 to 3.4e38"};
const number_rule number_is_share = {is_share, "a number of 0 or more"};
const number_rule number_is_count = {is_count, "a whole number of 1 or more"};
const number_rule number_is_seed = {is_seed, "a whole number of 0 or more"};
const number_rule number_is_rate = {is_rate, "a rate above 0 and up to 1"};

visatb_status place_number_of(const json_place *place, const json_t *value, const number_rule *rule,
                              double *number) {
    const visatb_status status = place_number(place, value, number);
    if (status == VISATB_OK && !rule->accepts(*number))
        return place_error(place, "%g; expected %s", *number, rule->expected);
    return status;
}

visatb_status place_optional_number(json_place *place, const json_t *object, const char *key,
                                    const number_rule *rule, double *number) {
    const size_t mark = place->path.length;
    const json_t *const value = place_enter(place, object, key);
    const visatb_status status = value ? place_number_of(place, value, rule, number) : VISATB_OK;
    if (status == VISATB_OK)
        json_path_leave(&place->path, mark);
    return status;
}

visatb_status place_string(const json_place *place, const json_t *value, const char **string) {
    const char *const found = json_string_value(value);
    if (!found)
        return wrong_type(place, "a string", value);
    *string = found;
    return VISATB_OK;
}

visatb_status place_boolean(const json_place *place, const json_t *value, bool *boolean) {
    if (!json_is_boolean(value))
        return wrong_type(place, "true or false", value);
    *boolean = json_is_true(value);
    return VISATB_OK;
}

visatb_status place_optional_string(json_place *place, const json_t *object, const char *key) {
    const size_t mark = place->path.length;
    const json_t *const value = place_enter(place, object, key);
    const char *text = NULL;
    if (value) {
        const visatb_status status = place_string(place, value, &text);
        if (status != VISATB_OK)
            return status;
    }
    json_path_leave(&place->path, mark);
    return VISATB_OK;
}

static bool is_known(const char *key, const char *const *keys, size_t count) {
    for (size_t k = 0; k < count; k++) {
        if (strcmp(key, keys[k]) == 0)
            return true;
    }
    return false;
}

visatb_status place_known_keys(json_place *place, const json_t *object, const char *const *keys,
                               size_t count) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)object, key, value) {
        if (is_known(key, keys, count))
            continue;
        char known[512] = "";
        size_t used = 0;
        for (size_t k = 0; k < count && used < sizeof known; k++) {
            const int written = snprintf(known + used, sizeof known - used, "%s%s", k ? ", " : "", keys[k]);
            used += written > 0 ? (size_t)written : 0;
        }
        json_path_key(&place->path, key);
        return place_error(place, "unknown key; expected one of %s", known);
    }
    return VISATB_OK;
}

visatb_status place_leftover(json_place *place, json_t *rest, const char *problem) {
    if (!rest)
        return error_out_of_memory("json_copy");
    const char *const key = json_object_iter_key(json_object_iter(rest));
    json_path_key(&place->path, key ? key : "");
    const visatb_status status = place_error(place, "%s", problem);
    json_decref(rest);
    return status;
}
