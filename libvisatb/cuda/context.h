/* What is behind the public handle. */
#ifndef VISATB_CUDA_CONTEXT_H
#define VISATB_CUDA_CONTEXT_H

#include "cuda/runtime.h"
#include "visatb.h"

struct visatb_context {
    cuda_device device;
    void *cublas; /* a handle of cublas.h */
};

#endif
