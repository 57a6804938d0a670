/* The backend of AVX-512 without its bf16 instructions. */
#include "cpu/avx512_vectors.h"

#define SIMD_BACKEND avx512_backend
#include "cpu/simd_row.h"
