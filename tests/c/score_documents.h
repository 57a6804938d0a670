/* Small valid documents, and edits that break them: one piece of text replaced by another. */
#ifndef VISATB_TESTS_SCORE_DOCUMENTS_H
#define VISATB_TESTS_SCORE_DOCUMENTS_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Two weighed tasks, a group of two, a fixed-weight one; two metrics at one task, a lower-is-better one at
 * another. */
#define FULL_DOCUMENT                                                                                        \
    "{\"visatb_scores\":1,\"form\":\"full\",\"note\":\"an example\",\"tasks\":["                             \
    "{\"name\":\"caption\",\"metrics\":[{\"name\":\"cider\",\"higher_is_better\":true}],\"samples\":40000}," \
    "{\"name\":\"vqa\",\"metrics\":[{\"name\":\"em\",\"higher_is_better\":true},"                            \
    "{\"name\":\"f1\",\"higher_is_better\":true}],\"samples\":60000},"                                       \
    "{\"name\":\"box\",\"metrics\":[{\"name\":\"l1\",\"higher_is_better\":false}],\"group\":\"grounding\","  \
    "\"samples\":50000},"                                                                                    \
    "{\"name\":\"point\",\"metrics\":[{\"name\":\"acc\",\"higher_is_better\":true}],\"group\":"              \
    "\"grounding\","                                                                                         \
    "\"samples\":70000},"                                                                                    \
    "{\"name\":\"chat\",\"fixed_weight\":1.0,\"samples\":40000}],"                                           \
    "\"runs\":{"                                                                                             \
    "\"mini\":{\"caption\":{\"cider\":0.4},\"vqa\":{\"em\":60,\"f1\":50},\"box\":{\"l1\":8},\"point\":{"     \
    "\"acc\":30}},"                                                                                          \
    "\"with_mini\":{"                                                                                        \
    "\"caption\":{\"caption\":{\"cider\":0.5},\"vqa\":{\"em\":62,\"f1\":52},\"box\":{\"l1\":7.5},"           \
    "\"point\":{\"acc\":33}},"                                                                               \
    "\"vqa\":{\"caption\":{\"cider\":0.42},\"vqa\":{\"em\":70,\"f1\":60},\"box\":{\"l1\":7.8},"              \
    "\"point\":{\"acc\":32}},"                                                                               \
    "\"grounding\":{\"caption\":{\"cider\":0.41},\"vqa\":{\"em\":61,\"f1\":51},\"box\":{\"l1\":4},"          \
    "\"point\":{\"acc\":45}}}},"                                                                             \
    "\"alphas\":{\"out\":0.25,\"in\":0.25,\"difficulty\":0.5},\"temperature\":0.5,\"range\":[0.5,2.0],"      \
    "\"sampling\":{\"large\":0.25,\"mini\":0.03125,\"seed\":0,\"batch_size\":32}}"

/* FULL_DOCUMENT with the runs of the simple and the precise form beside its own. */
#define MORE_RUNS                                                                                            \
    "\"base\":{\"caption\":{\"cider\":0.3},\"vqa\":{\"em\":55,\"f1\":45},\"box\":{\"l1\":9},\"point\":{"     \
    "\"acc\":20}},"                                                                                          \
    "\"only\":{\"caption\":{\"caption\":{\"cider\":0.8},\"vqa\":{\"em\":60,\"f1\":50},\"box\":{\"l1\":8},"   \
    "\"point\":{\"acc\":30}},\"vqa\":{\"caption\":{\"cider\":0.4},\"vqa\":{\"em\":80,\"f1\":75},\"box\":{"   \
    "\"l1\":7},"                                                                                             \
    "\"point\":{\"acc\":31}},\"grounding\":{\"caption\":{\"cider\":0.41},\"vqa\":{\"em\":61,\"f1\":51},"     \
    "\"box\":{\"l1\":2},\"point\":{\"acc\":50}}},"                                                           \
    "\"mini_only\":{\"caption\":{\"caption\":{\"cider\":0.2}},\"vqa\":{\"vqa\":{\"em\":40,\"f1\":60}},"      \
    "\"grounding\":{\"box\":{\"l1\":4},\"point\":{\"acc\":25}}},"

/* One edit, and what the reader must say of the result. */
typedef struct broken_document {
    const char *what;
    const char *find; /* must occur; "" puts the replacement in front */
    const char *replace;
    const char *message;
    const char *path;
} broken_document;

/* The document with the first `find` replaced, NULL if it does not occur; free() it. */
static inline char *edited(const char *document, const char *find, const char *replace) {
    const char *const at = strstr(document, find);
    if (!at)
        return NULL;
    char *const result = malloc(strlen(document) + strlen(replace) + 1);
    if (!result)
        return NULL;
    const size_t before = (size_t)(at - document);
    memcpy(result, document, before);
    strcpy(result + before, replace);
    strcat(result, at + strlen(find));
    return result;
}

#endif
