/* Straight from the formulas; speed and elegance are for the library. */
#include "loss_reference.h"

#include <float.h>
#include <math.h>

static long double softplus(long double a) {
    return a > 0 ? a + log1pl(expl(-a)) : log1pl(expl(a));
}

static long double sigmoid(long double a) {
    return a > 0 ? 1 / (1 + expl(-a)) : expl(a) / (1 + expl(a));
}

static long double largest_of_others(int64_t vocab, const double *logits, int64_t label) {
    long double largest = -INFINITY;
    for (int64_t i = 0; i < vocab; ++i)
        if (i != label && (long double)logits[i] > largest)
            largest = (long double)logits[i];
    return largest;
}

/* Of the others' logits, less the largest of them. */
static long double log_sum_exp_of_others(int64_t vocab, const double *logits, int64_t label,
                                         long double largest) {
    if (isinf(largest))
        return largest;
    long double sum = 0;
    for (int64_t i = 0; i < vocab; ++i)
        if (i != label)
            sum += expl((long double)logits[i] - largest);
    return logl(sum);
}

reference_row reference_row_of(int64_t vocab, const double *logits, int64_t label) {
    const long double target = (long double)logits[label];
    const long double largest = largest_of_others(vocab, logits, label);
    const long double rest = log_sum_exp_of_others(vocab, logits, label, largest);
    const long double maximum = largest > target ? largest : target;
    const long double a = isinf(largest) ? largest : (largest - target) + rest;
    const long double above =
        a > 0 ? (largest - maximum) + rest + softplus(-a) : target - maximum + softplus(a);
    return (reference_row){
        .nll = softplus(a),
        .lse = maximum + above,
        .doubt = sigmoid(a),
        .maximum = maximum,
        .above = above,
    };
}

/* lse in its two parts: huge logits would swallow the small one. */
static long double probability(const reference_row *row, double logit) {
    return expl(((long double)logit - row->maximum) - row->above);
}

long double reference_derivative(const reference_row *row, const double *logits, int64_t label, int64_t i) {
    return i == label ? -row->doubt : probability(row, logits[i]);
}

long double reference_capped(double x, double c) {
    return c > 0 ? (long double)c * tanhl((long double)x / (long double)c) : (long double)x;
}

/* 1 - tanh^2 = 1 / cosh^2, which does not cancel. */
long double reference_slope(double x, double c) {
    if (c == 0)
        return 1;
    const long double secant = 1 / coshl((long double)x / (long double)c);
    return secant * secant;
}

long double reference_loss(const reference_row *row, reference_options options, int64_t vocab,
                           const double *z) {
    const long double e = (long double)options.label_smoothing;
    const long double zeta = (long double)options.z_loss;
    long double loss = 0;
    if (e < 1) /* 0 * inf is not meant */
        loss += (1 - e) * row->nll;
    long double distances = 0;
    for (int64_t i = 0; e > 0 && i < vocab; ++i)
        distances += (row->maximum - (long double)z[i]) + row->above;
    return loss + e / (long double)vocab * distances + zeta * row->lse * row->lse;
}

/* (1 + 2 zeta lse) p - (1 - e) onehot - e / vocab; for the label p - 1 is one term. */
long double reference_loss_derivative(const reference_row *row, reference_options options, int64_t vocab,
                                      const double *z, int64_t label, int64_t i) {
    const long double e = (long double)options.label_smoothing;
    const long double share = e / (long double)vocab;
    const long double pull = 2 * (long double)options.z_loss * row->lse;
    const long double p = probability(row, z[i]);
    if (i == label)
        return pull * p + (e - share) - row->doubt;
    return p + pull * p - share;
}

size_t reference_size(visatb_dtype dtype) {
    if (dtype == VISATB_DTYPE_FLOAT64)
        return 8;
    return dtype == VISATB_DTYPE_FLOAT32 ? 4 : 2;
}

static int mantissa_bits(visatb_dtype dtype) {
    return dtype == VISATB_DTYPE_BFLOAT16 ? 7 : 10;
}

static int smallest_exponent(visatb_dtype dtype) {
    return dtype == VISATB_DTYPE_BFLOAT16 ? -126 : -14;
}

int reference_half_count(visatb_dtype dtype) {
    return dtype == VISATB_DTYPE_BFLOAT16 ? 0x7f80 : 0x7c00;
}

double reference_half(visatb_dtype dtype, int bits) {
    const int steps = 1 << mantissa_bits(dtype);
    const int binade = bits / steps;
    const int step = bits % steps;
    const double finest = ldexp(1, smallest_exponent(dtype) - mantissa_bits(dtype));
    return binade == 0 ? step * finest : ldexp((steps + step) * finest, binade - 1);
}

static double half_of_bits(visatb_dtype dtype, unsigned bits) {
    const int magnitude = (int)(bits & 0x7fffU);
    const int infinity = reference_half_count(dtype);
    double value = magnitude > infinity ? (double)NAN : (double)INFINITY;
    if (magnitude < infinity)
        value = reference_half(dtype, magnitude);
    return bits >= 0x8000U ? -value : value;
}

/* By bisection of the list of all values, so that no rounding trick can be shared with the library. Infinity
 * stands in the list as the value that would follow the largest. */
static uint16_t bits_nearest(visatb_dtype dtype, long double value) {
    const unsigned sign = signbit(value) ? 0x8000U : 0;
    const int infinity = reference_half_count(dtype);
    if (isnan(value))
        return (uint16_t)(sign | 0x7fffU);
    const long double magnitude = fabsl(value);
    int below = 0;
    int above = infinity;
    if (magnitude >= (long double)reference_half(dtype, infinity))
        return (uint16_t)(sign | (unsigned)infinity);
    while (above - below > 1) {
        const int middle = (below + above) / 2;
        if ((long double)reference_half(dtype, middle) <= magnitude)
            below = middle;
        else
            above = middle;
    }
    const long double down = magnitude - (long double)reference_half(dtype, below);
    const long double up = (long double)reference_half(dtype, above) - magnitude;
    const bool goes_up = up < down || (up == down && below % 2 != 0);
    return (uint16_t)(sign | (unsigned)(goes_up ? above : below));
}

double reference_get(visatb_dtype dtype, const void *array, int64_t i) {
    if (dtype == VISATB_DTYPE_FLOAT64)
        return ((const double *)array)[i];
    if (dtype == VISATB_DTYPE_FLOAT32)
        return (double)((const float *)array)[i];
    return half_of_bits(dtype, ((const uint16_t *)array)[i]);
}

void reference_put(visatb_dtype dtype, void *array, int64_t i, long double value) {
    if (dtype == VISATB_DTYPE_FLOAT64)
        ((double *)array)[i] = (double)value;
    else if (dtype == VISATB_DTYPE_FLOAT32)
        ((float *)array)[i] = (float)value;
    else
        ((uint16_t *)array)[i] = bits_nearest(dtype, value);
}

bool reference_within_one_ulp(const void *element, const void *other) {
    const unsigned bits = *(const uint16_t *)element;
    const unsigned other_bits = *(const uint16_t *)other;
    const bool both_zero = ((bits | other_bits) & 0x7fffU) == 0;
    return both_zero || bits == other_bits || bits + 1 == other_bits || bits == other_bits + 1;
}

double reference_smallest_normal(visatb_dtype dtype) {
    if (dtype == VISATB_DTYPE_FLOAT64)
        return DBL_MIN;
    return ldexp(1, dtype == VISATB_DTYPE_FLOAT32 ? -126 : smallest_exponent(dtype));
}
