/* A library that is opened at first use: one build of ours serves with the one that the process has already,
 * with that of a package, with the system's, and without any. */
#ifndef VISATB_CUDA_OPENED_LIBRARY_H
#define VISATB_CUDA_OPENED_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

typedef struct opened_library opened_library;

struct opened_library {
    const char *name;         /* "cuBLAS" */
    const char *order;        /* the environment variable with the path of the one that must be taken */
    const char *offer;        /* the same of one that may be passed over */
    const char *const *usual; /* its names in the system, best first; NULL ends them */

    /* Keeps what it needs of an opened one; NULL, or what is wrong with it, for which `fault` has room. */
    const char *(*take)(opened_library *library, void *handle);

    /* What came out. */
    bool found;
    char refusal[1536]; /* where none was found: why not, and what was expected */

    /* On the way there. */
    char tried[1024];
    char fault[96];
};

/* The order, which is carried out or refused; else what the process has loaded, what is offered, what the
 * system has. This or the next is to be called once. */
void opened_library_search(opened_library *library);

/* The one that has made something ("comm") for the caller, and so is loaded: the order, or what is loaded by
 * the first of its usual names, and no other, which would take for its own what it has not made. */
void opened_library_find_maker(opened_library *library, const char *made);

typedef struct opened_function {
    const char *name;
    void *place; /* of a pointer to such a function */
} opened_function;

/* For `take`: NULL, or that one is missing. */
const char *opened_library_functions(opened_library *library, void *handle, const opened_function *wanted,
                                     size_t count);

#endif
