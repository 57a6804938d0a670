/*
 * A JSON text read strictly, and the small steps that every reader of a file takes through it.
 *
 * A json_place is where a reader stands: which file, which path. A reader enters a key, looks, and leaves;
 * when something is wrong it returns place_error(), whose message names the place.
 */
#ifndef VISATB_SCORES_JSON_DOCUMENT_H
#define VISATB_SCORES_JSON_DOCUMENT_H

#include "common/error.h"
#include "scores/json_path.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct json_place {
    const char *file;
    json_path path;
} json_place;

#define place_error(place, ...) error_set_at((place)->file, (place)->path.text, __VA_ARGS__)

/* Parses UTF-8 JSON whose root is an object and whose key `kind` (as "visatb_scores") is version 1. Refused:
 * duplicate keys, NaN and infinity in any spelling, numbers beyond double, trailing text, NUL, deep nesting.
 *   root   out: a new reference */
visatb_status json_document_parse(const char *text, size_t length, const char *kind, json_place *place,
                                  json_t **root);

/* Indented JSON with a final newline, for people and for reading back exactly; NULL where memory is
 * exhausted. */
char *json_document_text(const json_t *root);

/* Appends the key to the path and returns its value, NULL if the object has none. */
json_t *place_enter(json_place *place, const json_t *object, const char *key);

/* "missing" at the place where `value` is NULL; the type is wrong: "expected a number, not null". */
visatb_status place_object(const json_place *place, const json_t *value);
visatb_status place_array(const json_place *place, const json_t *value);
visatb_status place_number(const json_place *place, const json_t *value, double *number);
visatb_status place_string(const json_place *place, const json_t *value, const char **string);
visatb_status place_boolean(const json_place *place, const json_t *value, bool *boolean);

/* What a number must be, and the words for it: "-1; expected a finite number of 0 or more". */
typedef struct number_rule {
    bool (*accepts)(double number);
    const char *expected;
} number_rule;

extern const number_rule number_is_weight; /* fits a trainer's float */
extern const number_rule number_is_share;
extern const number_rule number_is_count;
extern const number_rule number_is_seed;
extern const number_rule number_is_rate;

visatb_status place_number_of(const json_place *place, const json_t *value, const number_rule *rule,
                              double *number);

/* The same for a key that may be absent, which leaves *number alone. */
visatb_status place_optional_number(json_place *place, const json_t *object, const char *key,
                                    const number_rule *rule, double *number);

/* A key that may be absent, as "note": a string. */
visatb_status place_optional_string(json_place *place, const json_t *object, const char *key);

/* The object's keys are all among keys[count]; else "unknown key; expected one of ...". */
visatb_status place_known_keys(json_place *place, const json_t *object, const char *const *keys,
                               size_t count);

/* Refuses the first key of `rest`, a copy of an object whose known keys were deleted; NULL: memory was
 * exhausted. Takes `rest`. */
visatb_status place_leftover(json_place *place, json_t *rest, const char *problem);

#define PLACE_KNOWN_KEYS(place, object, keys)                                                                \
    place_known_keys(place, object, keys, sizeof(keys) / sizeof(keys)[0])

#endif
