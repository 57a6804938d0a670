/* Soft-capping of one logit (Gemma 2's): z = c tanh(x / c). */
#ifndef VISATB_CPU_SOFTCAP_H
#define VISATB_CPU_SOFTCAP_H

#include <math.h>

/* z, or x itself where c is 0: off. */
static inline double softcap_of(double x, double c) {
    return c > 0 ? c * tanh(x / c) : x;
}

/* dz/dx = 1 - tanh^2(x / c), without the cancellation that this form suffers where z comes near c. */
static inline double softcap_slope_of(double x, double c) {
    if (!(c > 0))
        return 1;
    const double t = exp(-2 * fabs(x / c));
    return 4 * t / ((1 + t) * (1 + t));
}

#endif
