/* exp in vectors, for the softmax of a row. Needs the vectors of avx2.c or avx512.c before it.
 *
 * exp(z - reference) is formed from z itself: z = n ln2 / LANES + r, exactly, and the reference is a power of
 * two, taken off the exponent. So its error is that of a table and a polynomial: below 1.3e-7 relative,
 * and 2.8e-9 more for each unit of z below the reference. Rounding z - maximum first would cost up to 4e-6.
 */
#ifndef VISATB_CPU_SIMD_EXP_H
#define VISATB_CPU_SIMD_EXP_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* exp is taken of z - reference, where reference = base + exponent ln2, with the ln2 below. The base is 0
 * unless the row's logits are huge: then z - base is exact for all z that matter. */
typedef struct reference {
    float base;
    float exponent;
} reference;

/* ln2 as a float. What it lacks, 1.9e-9, is not made up for: z and reference count it alike, so that it costs
 * 2.8e-9 relative for each unit of z below the reference, and saves an instruction of nine. */
static const float ln2 = 0.693147182464599609375F;

/* Where products with LANES / ln2 are still precise to a fraction of 1. */
static const float huge_logit = 16384;

/* Beyond this above the reference, exponentials could overflow once they are added up. */
static const double headroom = 60;

static reference reference_near(float z) {
    if (fabsf(z) > huge_logit)
        return (reference){.base = z, .exponent = 0};
    return (reference){.base = 0, .exponent = rintf(z * 1.44269504F)};
}

static double reference_value(reference at) {
    return (double)at.base + (double)at.exponent * (double)ln2;
}

/* exp(z + low - reference); NaN for NaN. `based`: whether there is a base.
 *
 * z = n ln2 / LANES + r, so that exp is 2^(n / LANES) by a table of a single vector, times a polynomial. */
INLINE vec exp_of(vec z, const float *low, reference at, bool based) {
    const float steps = LANES;
    /* Where 2^(n / LANES) is 0. Keeps -inf and the like out of the arithmetic. */
    const vec lowest = vec_set((at.exponent - 127) * ln2);
    vec rest = vec_set(0);
    if (based)
        z = vec_sub(z, vec_set(at.base));
    z = vec_max(lowest, z);
    if (low != NULL) {
        /* What is low beside a huge z is not low beside its difference from the base. */
        const vec lower = vec_where_above(z, lowest, vec_load(low));
        const vec whole = vec_add(z, lower);
        rest = vec_sub(lower, vec_sub(whole, z));
        z = vec_max(lowest, whole);
    }
    /* Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits: n, from the reference's on,
     * with the bias of a float's exponent. */
    const vec magic = vec_set(12582912.0F - steps * (at.exponent - 127));
    const vec shifted = vec_fma(z, vec_set(steps * 1.44269504F), magic);
    const vec n = vec_sub(shifted, magic);
    /* Exact: z and n ln2 / LANES agree in their leading bits. */
    vec r = vec_fnma(n, vec_set(ln2 / steps), z);
    if (low != NULL)
        r = vec_add(r, rest);
    const vec power = vec_power(shifted);
    const vec p = vec_fma(vec_fma(vec_set(exp_cubic), r, vec_set(exp_square)), r, vec_set(1));
    return vec_fma(p, vec_mul(r, power), power);
}

/* exp in double for x <= 0, relative error 2e-12. */
INLINE double exp_nonpositive(double x) {
    const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
    x = x < -700 ? -700 : x;
    const double shifted = x * 1.44269504088896340736 + magic;
    const double n = shifted - magic;
    const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double p = 2.4707924936308065e-05;
    p = p * r + 0.00019909209143759087;
    p = p * r + 0.0013889199581239955;
    p = p * r + 0.008333281396294254;
    p = p * r + 0.04166666437795667;
    p = p * r + 0.16666666785854797;
    p = p * r + 0.5000000000433658;
    p = (p * r + 1) * r + 1;
    uint64_t bits = 0;
    uint64_t shifted_bits = 0;
    memcpy(&bits, &p, sizeof bits);
    memcpy(&shifted_bits, &shifted, sizeof shifted_bits);
    bits += shifted_bits << 52;
    memcpy(&p, &bits, sizeof p);
    return p;
}

#endif
