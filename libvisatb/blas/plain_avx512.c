/* Vectors of 16 floats: AVX-512 F. 28 of the 32 registers hold sums. */
#include <immintrin.h>

typedef float scalar;
typedef __m512 vec;
enum { LANES = 16, PANEL_ROWS = 14 };

#define vec_set(value) _mm512_set1_ps(value)
#define vec_load(from) _mm512_loadu_ps(from)
#define vec_store(to, a) _mm512_storeu_ps(to, a)
#define vec_add(a, b) _mm512_add_ps(a, b)
#define vec_fma(a, b, c) _mm512_fmadd_ps(a, b, c)

#include "blas/plain_block.h"

VISATB_PLAIN_PRODUCT(plain_avx512)
