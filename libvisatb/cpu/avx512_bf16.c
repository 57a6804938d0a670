/* The backend of AVX-512 with its bf16 instructions: the same, compiled for them. */
#include "cpu/avx512_vectors.h"

#define SIMD_BACKEND avx512_bf16_backend
#include "cpu/simd_row.h"
