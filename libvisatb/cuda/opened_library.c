#include "cuda/opened_library.h"

#include "common/text.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *opened_library_functions(opened_library *library, void *handle, const opened_function *wanted,
                                     size_t count) {
    for (size_t i = 0; i < count; ++i) {
        void *symbol = dlsym(handle, wanted[i].name);
        if (symbol == NULL) {
            (void)snprintf(library->fault, sizeof library->fault, "it has no %s", wanted[i].name);
            return library->fault;
        }
        memcpy(wanted[i].place, &symbol, sizeof symbol);
    }
    return NULL;
}

/* NULL, or what is wrong. One that cannot be used is closed again. */
static const char *take(opened_library *library, void *handle) {
    const char *fault = library->take(library, handle);
    library->found = fault == NULL;
    if (!library->found)
        (void)dlclose(handle);
    return fault;
}

static const char *open_one(opened_library *library, const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return handle != NULL ? take(library, handle) : dlerror();
}

/* NULL where there is none, of which a loader may have nothing to say. */
static void *find_loaded(const char *name) {
    return dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
}

static void remember(opened_library *library, const char *before, const char *equals, const char *path,
                     const char *fault) {
    /* The loader's own words begin with the path. */
    const bool is_named = strncmp(fault, path, strlen(path)) == 0;
    const size_t used = strlen(library->tried);
    (void)snprintf(library->tried + used, sizeof library->tried - used, "%s%s%s%s%s%s", used > 0 ? ", " : "",
                   before, equals, is_named ? "" : path, is_named ? "" : ": ", fault);
    text_end_whole(library->tried);
}

/* What the process has loaded is what its other parts work with, and a second one beside it would take memory
 * of the GPU once more. */
static void take_loaded(opened_library *library) {
    for (const char *const *name = library->usual; !library->found && *name != NULL; ++name) {
        void *handle = find_loaded(*name);
        const char *fault = handle != NULL ? take(library, handle) : NULL;
        (void)fault; /* it is said of the same name once more */
    }
}

static void open_offered(opened_library *library, const char *path) {
    if (library->found || path == NULL || path[0] == '\0')
        return;
    const char *fault = open_one(library, path);
    if (fault != NULL)
        remember(library, library->offer, "=", path, fault);
}

static void open_usual(opened_library *library) {
    for (const char *const *name = library->usual; !library->found && *name != NULL; ++name) {
        const char *fault = open_one(library, *name);
        if (fault != NULL)
            remember(library, "", "", *name, fault);
    }
}

static void open_asked_for(opened_library *library, const char *path) {
    const char *fault = open_one(library, path);
    if (fault == NULL)
        return;
    (void)snprintf(library->refusal, sizeof library->refusal,
                   "the environment says %s=%s: %s; expected the path of a %s, or no such variable",
                   library->order, path, fault, library->name);
    text_end_whole(library->refusal);
}

static bool carry_out_order(opened_library *library) {
    const char *asked_for = getenv(library->order);
    if (asked_for == NULL || asked_for[0] == '\0')
        return false;
    open_asked_for(library, asked_for);
    return true;
}

void opened_library_search(opened_library *library) {
    if (carry_out_order(library))
        return;
    take_loaded(library);
    open_offered(library, getenv(library->offer));
    open_usual(library);
    if (library->found)
        return;
    (void)snprintf(library->refusal, sizeof library->refusal,
                   "no %s found (%s); expected one that is installed, or its path in %s", library->name,
                   library->tried, library->order);
    text_end_whole(library->refusal);
}

void opened_library_find_maker(opened_library *library, const char *made) {
    if (carry_out_order(library))
        return;
    const char *name = library->usual[0];
    void *handle = find_loaded(name);
    const char *fault = handle != NULL ? take(library, handle) : NULL;
    if (library->found)
        return;
    if (handle == NULL)
        (void)snprintf(library->refusal, sizeof library->refusal,
                       "the %s that made %s is not loaded as %s; expected it to be, or its path in %s",
                       library->name, made, name, library->order);
    else
        (void)snprintf(
            library->refusal, sizeof library->refusal,
            "the %s that is loaded cannot be used: %s; expected the %s that made %s, or its path in %s", name,
            fault, library->name, made, library->order);
    text_end_whole(library->refusal);
}
