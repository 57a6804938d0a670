#include "cuda/context.h"

#include "common/error.h"
#include "cuda/cublas.h"

#include <stdlib.h>

visatb_status visatb_context_create(visatb_context **context) {
    static const char function[] = "visatb_context_create";
    if (context == NULL)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: context = NULL; expected a pointer", function);
    visatb_context made = {.cublas = NULL};
    visatb_status status = runtime_device(function, &made.device);
    if (status != VISATB_OK)
        return status;
    if (!cublas_open()->found)
        return error_set(VISATB_ERROR_UNSUPPORTED, "%s: %s", function, cublas_open()->refusal);
    visatb_context *created = malloc(sizeof *created);
    if (created == NULL)
        return error_out_of_memory(function);
    status = cublas_create(function, &made.cublas);
    if (status != VISATB_OK) {
        free(created);
        return status;
    }
    *created = made;
    *context = created;
    return VISATB_OK;
}

/* What cuBLAS frees is the device's, which another may have taken the place of. */
void visatb_context_destroy(visatb_context *context) {
    static const char function[] = "visatb_context_destroy";
    if (context == NULL)
        return;
    int before = context->device.ordinal;
    const bool is_used = runtime_use_device(function, context->device.ordinal, &before) == VISATB_OK;
    cublas_destroy(context->cublas);
    if (is_used)
        (void)runtime_use_device(function, before, &before);
    free(context);
}
