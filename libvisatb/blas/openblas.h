/* OpenBLAS, opened when it is first asked for. */
#ifndef VISATB_BLAS_OPENBLAS_H
#define VISATB_BLAS_OPENBLAS_H

#include "blas/blas.h"

/* What the search for it came to; the same in every call. */
typedef struct openblas {
    bool found;
    bool uses_avx512;    /* there are CPUs with AVX-512 that it takes for older ones */
    const char *why_not; /* why a product is not left to it, such as "no BLAS found" */
    const char *refusal; /* "", or what is wrong with the library that the environment names */
    blas floats;
    blas doubles;
} openblas;

const openblas *openblas_open(void);

#endif
