/* What is done to a run of one row, by type of element: its maximum, its exponentials, its sum, its cap, its
 * gradient. Needs the vectors of avx2.c or avx512.c before it. */
#ifndef VISATB_CPU_SIMD_TILE_H
#define VISATB_CPU_SIMD_TILE_H

#include "cpu/simd_exp.h"
#include "visatb.h"

#include <float.h>

enum {
    STEP = 4 * LANES, /* four independent chains hide the latency of each */
    TILE = 1024,      /* small enough that sums of fp32 stay exact to a few units, and for the stack */
    CACHE_LINE = 64,
    FETCH_AHEAD = 8192, /* bytes; found by measurement. At the end of a row this is the next one */
};

/* --- pairs of vectors, by type of element -------------------------------------------------------------- */

/* Two vectors' worth of elements. Of bf16 the first has the even ones and the second the odd ones, since two
 * neighbours in a register are a shift and a mask away from two floats; else they are in order. What is kept
 * of a row stays in this order: its place in a row is place_of. */
typedef struct vec_pair {
    vec first;
    vec second;
} vec_pair;

enum { PAIR = 2 * LANES };

typedef vec_pair load_pair(const void *elements, int64_t i);
typedef void store_pair(void *elements, int64_t i, vec_pair pair);

INLINE vec_pair load_float32(const void *elements, int64_t i) {
    const float *from = (const float *)elements + i;
    return (vec_pair){vec_load(from), vec_load(from + LANES)};
}

INLINE vec_pair load_bfloat16(const void *elements, int64_t i) {
    vec_pair pair;
    vec_load_bfloat16((const uint16_t *)elements + i, &pair.first, &pair.second);
    return pair;
}

INLINE vec_pair load_float16(const void *elements, int64_t i) {
    const uint16_t *from = (const uint16_t *)elements + i;
    return (vec_pair){vec_load_float16(from), vec_load_float16(from + LANES)};
}

/* Where the type is not worth an instance of its own. */
INLINE vec_pair load(visatb_dtype dtype, const void *elements, int64_t i) {
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: return load_bfloat16(elements, i);
    case VISATB_DTYPE_FLOAT16: return load_float16(elements, i);
    default: return load_float32(elements, i);
    }
}

INLINE void store_float32(void *elements, int64_t i, vec_pair pair) {
    vec_store((float *)elements + i, pair.first);
    vec_store((float *)elements + i + LANES, pair.second);
}

INLINE void store_bfloat16(void *elements, int64_t i, vec_pair pair) {
    vec_store_bfloat16((uint16_t *)elements + i, pair.first, pair.second);
}

INLINE void store_float16(void *elements, int64_t i, vec_pair pair) {
    vec_store_float16((uint16_t *)elements + i, pair.first, pair.second);
}

static int64_t place_of(visatb_dtype dtype, int64_t i) {
    const int64_t within = i % PAIR;
    return dtype == VISATB_DTYPE_BFLOAT16 ? i - within + within % 2 * LANES + within / 2 : i;
}

/* --- maximum, exponentials, sum ------------------------------------------------------------------------ */

/* NaN is passed over: it shows in the sum of exponentials. */
INLINE float maximum_by(load_pair *load_by, const void *elements, int64_t count) {
    vec largest[4];
    for (int64_t k = 0; k < 4; ++k)
        largest[k] = vec_set(-INFINITY);
    for (int64_t i = 0; i < count; i += STEP) {
        for (int64_t k = 0; k < 4; k += 2) {
            const vec_pair z = load_by(elements, i + k * LANES);
            largest[k] = vec_max(z.first, largest[k]);
            largest[k + 1] = vec_max(z.second, largest[k + 1]);
        }
    }
    return vec_largest(vec_max(vec_max(largest[0], largest[1]), vec_max(largest[2], largest[3])));
}

/* Elements in memory, and where their exponentials go: NULL, nowhere; it may be where they come from. */
typedef struct run {
    const void *elements;
    int64_t count;    /* a multiple of STEP */
    const float *low; /* what is missing in the elements, or NULL */
    float *kept;
    bool copied; /* the elements do not stand in the row: what comes after them is of no use */
} run;

typedef struct run_sum {
    double sum;    /* of the exponentials; not to be used if `largest` lies too far above the reference */
    float largest; /* element; NaN is passed over */
} run_sum;

/* Asks for what comes after these bytes of the row. */
INLINE void fetch_ahead(const void *elements, size_t bytes) {
    for (size_t line = 0; line < bytes; line += CACHE_LINE)
        __builtin_prefetch((const char *)elements + FETCH_AHEAD + line);
}

INLINE run_sum exps_by(load_pair *load_by, size_t element_size, const run *of, reference at, bool based,
                       bool keep) {
    vec sum[4];
    vec largest[4];
    for (int64_t k = 0; k < 4; ++k) {
        sum[k] = vec_set(0);
        largest[k] = vec_set(-INFINITY);
    }
    for (int64_t i = 0; i < of->count; i += STEP) {
        if (!of->copied)
            fetch_ahead((const char *)of->elements + (size_t)i * element_size, STEP * element_size);
        vec z[4];
        for (int64_t k = 0; k < 4; k += 2) {
            const vec_pair pair = load_by(of->elements, i + k * LANES);
            z[k] = pair.first;
            z[k + 1] = pair.second;
        }
        for (int64_t k = 0; k < 4; ++k) {
            const int64_t at_k = i + k * LANES;
            const vec e = exp_of(z[k], of->low != NULL ? of->low + at_k : NULL, at, based);
            largest[k] = vec_max(z[k], largest[k]);
            sum[k] = vec_add(sum[k], e);
            if (keep)
                vec_store(of->kept + at_k, e);
        }
    }
    wide total = wide_zero();
    for (int64_t k = 0; k < 4; ++k)
        total = wide_add(total, sum[k]);
    return (run_sum){
        .sum = wide_total(total),
        .largest = vec_largest(vec_max(vec_max(largest[0], largest[1]), vec_max(largest[2], largest[3]))),
    };
}

/* Instances without what is not needed: this is where the time goes. */
INLINE run_sum exps_for(load_pair *load_by, size_t element_size, const run *of, reference at) {
    if (at.base != 0)
        return exps_by(load_by, element_size, of, at, true, of->kept != NULL);
    return of->kept != NULL ? exps_by(load_by, element_size, of, at, false, true)
                            : exps_by(load_by, element_size, of, at, false, false);
}

static run_sum exps_of(visatb_dtype dtype, const run *of, reference at) {
    run plain = *of;
    plain.low = NULL;
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: return exps_for(load_bfloat16, sizeof(uint16_t), &plain, at);
    case VISATB_DTYPE_FLOAT16: return exps_for(load_float16, sizeof(uint16_t), &plain, at);
    default: return exps_for(load_float32, sizeof(float), &plain, at);
    }
}

static float maximum_of(visatb_dtype dtype, const void *elements, int64_t count) {
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: return maximum_by(load_bfloat16, elements, count);
    case VISATB_DTYPE_FLOAT16: return maximum_by(load_float16, elements, count);
    default: return maximum_by(load_float32, elements, count);
    }
}

static double sum_of(visatb_dtype dtype, const void *elements, int64_t count) {
    wide sum = wide_zero();
    for (int64_t i = 0; i < count; i += PAIR) {
        const vec_pair z = load(dtype, elements, i);
        sum = wide_add(wide_add(sum, z.first), z.second);
    }
    return wide_total(sum);
}

/* --- soft-capping, in double: z is needed to more than its own 24 bits ------------------------------- */

/* x -> z, as the nearest float and what is missing, and dz/dx. A plain loop, which compilers turn into
 * vectors. NaN becomes NaN. */
static void cap_tile(double c, int64_t count, float *x, float *low, float *slope) {
    const double inverse_c = fmin(1 / c, DBL_MAX);
    const double third = 1.0 / 3;
    for (int64_t i = 0; i < count; ++i) {
        const double value = (double)x[i];
        const double y = fabs(value) * inverse_c;
        const double t = exp_nonpositive(-2 * y);
        const double inverse = 1 / (1 + t);
        /* Near 0, where 1 - t has few digits, two terms of the series. */
        const double tanh_of = y < 1e-3 ? y - y * y * y * third : (1 - t) * inverse;
        const double z = value == value ? copysign(c * tanh_of, value) : value;
        x[i] = (float)z;
        low[i] = (float)(z - (double)x[i]);
        slope[i] = (float)(4 * t * inverse * inverse);
    }
}

/* --- gradient ----------------------------------------------------------------------------------------- */

/* (factor * e - uniform) * slope, for two vectors. */
typedef struct scaling {
    const float *e;
    const float *slopes;
    float factor;
    float uniform;
} scaling;

INLINE vec scaled(const scaling *by, int64_t i) {
    const vec g = vec_fma(vec_load(by->e + i), vec_set(by->factor), vec_set(-by->uniform));
    return by->slopes != NULL ? vec_mul(g, vec_load(by->slopes + i)) : g;
}

INLINE void scale_by(store_pair *store, const scaling *by, int64_t count, void *gradient) {
    for (int64_t i = 0; i < count; i += PAIR)
        store(gradient, i, (vec_pair){scaled(by, i), scaled(by, i + LANES)});
}

static void scale_whole(visatb_dtype dtype, const scaling *by, int64_t count, void *gradient) {
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: scale_by(store_bfloat16, by, count, gradient); break;
    case VISATB_DTYPE_FLOAT16: scale_by(store_float16, by, count, gradient); break;
    default: scale_by(store_float32, by, count, gradient); break;
    }
}

#endif
