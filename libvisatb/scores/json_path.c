#include "scores/json_path.h"
#include "common/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void json_path_clear(json_path *path) {
    json_path_leave(path, 0);
}

void json_path_leave(json_path *path, size_t length) {
    path->length = length;
    path->text[length] = '\0';
}

static void append(json_path *path, const char *bytes, size_t count) {
    const size_t room = sizeof path->text - 1 - path->length;
    const size_t taken = count < room ? count : room;
    memcpy(path->text + path->length, bytes, taken);
    json_path_leave(path, path->length + taken);
    if (taken < count) {
        text_end_whole(path->text);
        path->length = strlen(path->text);
    }
}

static bool needs_quotes(const char *key, size_t length) {
    for (size_t k = 0; k < length; k++) {
        if ((unsigned char)key[k] <= ' ' || key[k] == 127 || strchr(".[]\":\\", key[k]))
            return true;
    }
    return length == 0;
}

static void append_escaped(json_path *path, char byte) {
    char escaped[8];
    if (byte == '"' || byte == '\\')
        (void)snprintf(escaped, sizeof escaped, "\\%c", byte);
    else if ((unsigned char)byte < ' ')
        (void)snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)(unsigned char)byte);
    else
        (void)snprintf(escaped, sizeof escaped, "%c", byte);
    append(path, escaped, strlen(escaped));
}

/* `escaped`: the key is spelt as in the JSON text, with its escapes. */
static void append_key(json_path *path, const char *key, size_t length, bool escaped) {
    if (!needs_quotes(key, length)) {
        if (path->length > 0)
            append(path, ".", 1);
        append(path, key, length);
        return;
    }
    append(path, "[\"", 2);
    if (escaped)
        append(path, key, length);
    for (size_t k = 0; k < length && !escaped; k++)
        append_escaped(path, key[k]);
    append(path, "\"]", 2);
}

void json_path_key(json_path *path, const char *key) {
    append_key(path, key, strlen(key), false);
}

void json_path_index(json_path *path, size_t index) {
    char text[32];
    (void)snprintf(text, sizeof text, "[%zu]", index);
    append(path, text, strlen(text));
}

/* One container that is open at the offset. */
typedef struct frame {
    bool is_object;
    bool in_key;    /* the next string is a key */
    bool has_value; /* an array's first item has begun */
    size_t index;
    const char *key;
    size_t key_length;
} frame;

/* Paths deeper than any document of ours are cut. */
#define DEEPEST 16

typedef struct scan {
    frame frames[DEEPEST];
    size_t depth; /* may exceed DEEPEST; the frames beyond are not kept */
} scan;

static frame *innermost(scan *state) {
    return state->depth > 0 && state->depth <= DEEPEST ? &state->frames[state->depth - 1] : NULL;
}

/* The end of the string that opens at `start`: the position of its closing quote, or `end`. */
static size_t skip_string(const char *text, size_t start, size_t end) {
    size_t at = start + 1;
    while (at < end && text[at] != '"')
        at += text[at] == '\\' ? 2 : 1;
    return at < end ? at : end;
}

static void take_punctuation(scan *state, char byte) {
    frame *inner = innermost(state);
    if (byte == '{' || byte == '[') {
        if (inner)
            inner->has_value = true;
        state->depth++;
        inner = innermost(state);
        if (inner)
            *inner = (frame){.is_object = byte == '{', .in_key = byte == '{'};
    } else if ((byte == '}' || byte == ']') && state->depth > 0) {
        state->depth--;
    } else if (byte == ',' && inner) {
        inner->index++;
        inner->in_key = inner->is_object;
    } else if (byte == ':' && inner) {
        inner->in_key = false;
    } else if (inner && (unsigned char)byte > ' ') {
        inner->has_value = true;
    }
}

void json_path_of_offset(json_path *path, const char *text, size_t offset) {
    scan state = {.depth = 0};
    for (size_t at = 0; at < offset; at++) {
        if (text[at] != '"') {
            take_punctuation(&state, text[at]);
            continue;
        }
        const size_t close = skip_string(text, at, offset);
        frame *inner = innermost(&state);
        if (inner) {
            inner->has_value = true;
            if (inner->in_key) {
                inner->key = text + at + 1;
                inner->key_length = close - at - 1;
            }
        }
        at = close;
    }
    json_path_clear(path);
    const size_t kept = state.depth < DEEPEST ? state.depth : DEEPEST;
    for (size_t k = 0; k < kept; k++) {
        const frame *open = &state.frames[k];
        if (open->is_object && open->key)
            append_key(path, open->key, open->key_length, true);
        if (!open->is_object && open->has_value)
            json_path_index(path, open->index);
    }
}
