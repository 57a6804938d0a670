/* What stands in for nccl.c in a build with VISATB_NCCL=OFF. */
#include "cuda/cuda.h"
#include "cuda/nccl.h"

const nccl *nccl_open(void) {
    static const nccl none = {.refusal = "this library was built without NCCL (VISATB_NCCL=OFF)"};
    return &none;
}

const char *cuda_description_of_nccl(void) {
    return "no (VISATB_NCCL=OFF)";
}

/* Nobody comes here: none is found. */
visatb_status nccl_device(const char *function, void *comm, int *ordinal) {
    (void)function;
    (void)comm;
    *ordinal = 0;
    return VISATB_ERROR_UNSUPPORTED;
}

visatb_status nccl_sum(const char *function, void *comm, void *values, int64_t count, nccl_type type,
                       void *stream) {
    (void)function;
    (void)comm;
    (void)values;
    (void)count;
    (void)type;
    (void)stream;
    return VISATB_ERROR_UNSUPPORTED;
}
