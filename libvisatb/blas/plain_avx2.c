/* Vectors of 8 floats: AVX2 and FMA. 12 of the 16 registers hold sums. */
#include <immintrin.h>

typedef float scalar;
typedef __m256 vec;
enum { LANES = 8, PANEL_ROWS = 6 };

#define vec_set(value) _mm256_set1_ps(value)
#define vec_load(from) _mm256_loadu_ps(from)
#define vec_store(to, a) _mm256_storeu_ps(to, a)
#define vec_add(a, b) _mm256_add_ps(a, b)
#define vec_fma(a, b, c) _mm256_fmadd_ps(a, b, c)

#include "blas/plain_block.h"

VISATB_PLAIN_PRODUCT(plain_avx2)
