/* Vectors of 16 floats: AVX-512 F, BW, DQ and VL, and its bf16 instructions where they are compiled for. */
#ifndef VISATB_CPU_AVX512_VECTORS_H
#define VISATB_CPU_AVX512_VECTORS_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 vec;
enum { LANES = 16 };

#define VEC static inline __attribute__((always_inline))

VEC vec vec_set(float value) {
    return _mm512_set1_ps(value);
}

VEC vec vec_load(const float *from) {
    return _mm512_loadu_ps(from);
}

VEC void vec_store(float *to, vec a) {
    _mm512_storeu_ps(to, a);
}

VEC vec vec_add(vec a, vec b) {
    return _mm512_add_ps(a, b);
}

VEC vec vec_sub(vec a, vec b) {
    return _mm512_sub_ps(a, b);
}

VEC vec vec_mul(vec a, vec b) {
    return _mm512_mul_ps(a, b);
}

/* a b + c */
VEC vec vec_fma(vec a, vec b, vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

/* c - a b */
VEC vec vec_fnma(vec a, vec b, vec c) {
    return _mm512_fnmadd_ps(a, b, c);
}

/* b where either is NaN. */
VEC vec vec_max(vec a, vec b) {
    return _mm512_max_ps(a, b);
}

/* The value where a > b, else 0. */
VEC vec vec_where_above(vec a, vec b, vec value) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), value);
}

/* exp(r) ~ 1 + r + exp_square r^2 + exp_cubic r^3 for |r| <= ln2 / 32: minimax, relative error 1.6e-9. */
static const float exp_square = 0.5000165104866028F;
static const float exp_cubic = 0.16667065024375916F;

/* 2^(n / 16), from the bits of 1.5 * 2^23 + n + 16 * 127. Shifted to the left, n's upper bits are the
 * exponent and its last four the beginning of the mantissa, which the table mends. */
VEC vec vec_power(vec shifted) {
    const __m512i mend =
        _mm512_setr_epi32(0, -0x2553d, -0x46a3e, -0x63c2d, -0x7c810, -0x90ace, -0xa0129, -0xaa7c1, -0xafb0d,
                          -0xaf75c, -0xa98d6, -0x9db74, -0x8bb03, -0x73321, -0x53f39, -0x2da83);
    const __m512i n = _mm512_castps_si512(shifted);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(n, 19), _mm512_permutexvar_epi32(n, mend)));
}

VEC float vec_largest(vec a) {
    return _mm512_reduce_max_ps(a);
}

/* The same lanes in double, for sums. */
typedef struct wide {
    __m512d low;
    __m512d high;
} wide;

VEC wide wide_zero(void) {
    return (wide){_mm512_setzero_pd(), _mm512_setzero_pd()};
}

VEC wide wide_add(wide sum, vec a) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
    return (wide){_mm512_add_pd(sum.low, low), _mm512_add_pd(sum.high, high)};
}

VEC double wide_total(wide sum) {
    return _mm512_reduce_add_pd(_mm512_add_pd(sum.low, sum.high));
}

/* 32 elements: the even ones and the odd ones. */
VEC void vec_load_bfloat16(const uint16_t *from, vec *even, vec *odd) {
    const __m512i elements = _mm512_loadu_si512(from);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(elements, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(elements, _mm512_set1_epi32((int)0xffff0000)));
}

VEC vec vec_load_float16(const uint16_t *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

VEC void vec_store_float16(uint16_t *to, vec first, vec second) {
    const __m256i low = _mm512_cvtps_ph(first, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i high = _mm512_cvtps_ph(second, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm512_storeu_si512(to, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}

#ifdef __AVX512BF16__

/* The instruction takes what bf16 has no normal number for, below 1.2e-38, for 0. */
VEC void vec_store_bfloat16(uint16_t *to, vec even, vec odd) {
    const __m512i in_order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                              23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512bh rounded = _mm512_cvtne2ps_pbh(odd, even);
    __m512i both;
    __builtin_memcpy(&both, &rounded, sizeof both);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(in_order, both));
}

#else

/* To nearest, ties to even, in the upper half. NaN does not come here. */
VEC __m512i rounded_to_bfloat16(vec a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

VEC void vec_store_bfloat16(uint16_t *to, vec even, vec odd) {
    const __m512i low = _mm512_srli_epi32(rounded_to_bfloat16(even), 16);
    const __m512i high = _mm512_and_si512(rounded_to_bfloat16(odd), _mm512_set1_epi32((int)0xffff0000));
    _mm512_storeu_si512(to, _mm512_or_si512(low, high));
}

#endif

#endif
