/* What stands in for openblas.c in a build with VISATB_BLAS=OFF. */
#include "blas/openblas.h"

const openblas *openblas_open(void) {
    static const openblas none = {.why_not = "built without BLAS", .refusal = ""};
    return &none;
}
