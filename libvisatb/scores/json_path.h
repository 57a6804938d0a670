/* Where in a JSON document something stands, spelt as people write it: runs.with_mini.vqa.em, tasks[2].name.
 * A key that would be misread is quoted: runs.mini["a.b"]. */
#ifndef VISATB_SCORES_JSON_PATH_H
#define VISATB_SCORES_JSON_PATH_H

#include <stddef.h>

/* Longer paths are cut, never overrun: they only serve messages. */
typedef struct json_path {
    char text[1000];
    size_t length;
} json_path;

void json_path_clear(json_path *path);
void json_path_key(json_path *path, const char *key);
void json_path_index(json_path *path, size_t index);

/* Back to an earlier length. */
void json_path_leave(json_path *path, size_t length);

/* The path of the byte at `offset` of a text that need not be valid JSON: for messages of the parser. */
void json_path_of_offset(json_path *path, const char *text, size_t offset);

#endif
