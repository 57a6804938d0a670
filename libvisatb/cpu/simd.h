/* The backends that are written for an instruction set; built where the compiler knows it. */
#ifndef VISATB_CPU_SIMD_H
#define VISATB_CPU_SIMD_H

#include "loss/backend.h"

extern const loss_backend avx2_backend;
extern const loss_backend avx512_backend;
extern const loss_backend avx512_bf16_backend;

#endif
