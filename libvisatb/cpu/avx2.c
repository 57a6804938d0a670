/* Vectors of 8 floats: AVX2, FMA and F16C. */
#include <immintrin.h>
#include <stdint.h>

typedef __m256 vec;
enum { LANES = 8 };

#define VEC static inline __attribute__((always_inline))

VEC vec vec_set(float value) {
    return _mm256_set1_ps(value);
}

VEC vec vec_load(const float *from) {
    return _mm256_loadu_ps(from);
}

VEC void vec_store(float *to, vec a) {
    _mm256_storeu_ps(to, a);
}

VEC vec vec_add(vec a, vec b) {
    return _mm256_add_ps(a, b);
}

VEC vec vec_sub(vec a, vec b) {
    return _mm256_sub_ps(a, b);
}

VEC vec vec_mul(vec a, vec b) {
    return _mm256_mul_ps(a, b);
}

/* a b + c */
VEC vec vec_fma(vec a, vec b, vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

/* c - a b */
VEC vec vec_fnma(vec a, vec b, vec c) {
    return _mm256_fnmadd_ps(a, b, c);
}

/* b where either is NaN. */
VEC vec vec_max(vec a, vec b) {
    return _mm256_max_ps(a, b);
}

/* The value where a > b, else 0. */
VEC vec vec_where_above(vec a, vec b, vec value) {
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ), value);
}

/* exp(r) ~ 1 + r + exp_square r^2 + exp_cubic r^3 for |r| <= ln2 / 16: minimax, relative error 2.6e-8. */
static const float exp_square = 0.5000659823417664F;
static const float exp_cubic = 0.16668261587619781F;

/* 2^(n / 8), from the bits of 1.5 * 2^23 + n + 8 * 127. Shifted to the left, n's upper bits are the exponent
 * and its last three the beginning of the mantissa, which the table mends. */
VEC vec vec_power(vec shifted) {
    const __m256i mend =
        _mm256_setr_epi32(0, -0x46a3e, -0x7c810, -0xa0129, -0xafb0d, -0xa98d6, -0x8bb03, -0x53f39);
    const __m256i n = _mm256_castps_si256(shifted);
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_slli_epi32(n, 20), _mm256_permutevar8x32_epi32(mend, n)));
}

VEC float vec_largest(vec a) {
    __m128 largest = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    largest = _mm_max_ps(largest, _mm_movehl_ps(largest, largest));
    return _mm_cvtss_f32(_mm_max_ss(largest, _mm_movehdup_ps(largest)));
}

/* The same lanes in double, for sums. */
typedef struct wide {
    __m256d low;
    __m256d high;
} wide;

VEC wide wide_zero(void) {
    return (wide){_mm256_setzero_pd(), _mm256_setzero_pd()};
}

VEC wide wide_add(wide sum, vec a) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
    return (wide){_mm256_add_pd(sum.low, low), _mm256_add_pd(sum.high, high)};
}

VEC double wide_total(wide sum) {
    const __m256d both = _mm256_add_pd(sum.low, sum.high);
    const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(both), _mm256_extractf128_pd(both, 1));
    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
}

/* 16 elements: the even ones and the odd ones. */
VEC void vec_load_bfloat16(const uint16_t *from, vec *even, vec *odd) {
    const __m256i elements = _mm256_loadu_si256((const __m256i *)(const void *)from);
    *even = _mm256_castsi256_ps(_mm256_slli_epi32(elements, 16));
    *odd = _mm256_castsi256_ps(_mm256_and_si256(elements, _mm256_set1_epi32((int)0xffff0000)));
}

VEC vec vec_load_float16(const uint16_t *from) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

VEC void vec_store_float16(uint16_t *to, vec first, vec second) {
    const __m128i low = _mm256_cvtps_ph(first, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i high = _mm256_cvtps_ph(second, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_set_m128i(high, low));
}

/* To nearest, ties to even, in the upper half. NaN does not come here. */
VEC __m256i rounded_to_bfloat16(vec a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
}

VEC void vec_store_bfloat16(uint16_t *to, vec even, vec odd) {
    const __m256i low = _mm256_srli_epi32(rounded_to_bfloat16(even), 16);
    const __m256i high = _mm256_and_si256(rounded_to_bfloat16(odd), _mm256_set1_epi32((int)0xffff0000));
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_or_si256(low, high));
}

#define SIMD_BACKEND avx2_backend
#include "cpu/simd_row.h"
