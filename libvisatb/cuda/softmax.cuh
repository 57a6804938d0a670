/* The softmax of a row in parts: each thread adds up exponentials relative to a reference of its own, and
 * those sums are brought to one reference where they meet.
 *
 * exp(z - reference) is what is computed of a logit x, where z = x, or c tanh(x / c) with a softcap c. */
#ifndef VISATB_CUDA_SOFTMAX_CUH
#define VISATB_CUDA_SOFTMAX_CUH

#include "cuda/elements.cuh"
#include "loss/formula.h"

#include <float.h>

/* c, in the forms that are used. It may be any number, also one that fp32 does not hold. */
struct softcap {
    float cap;            /* 0: none; infinity: so large that it changes nothing */
    float twice_over_cap; /* finite, or 0 times it would be no number */
    float small;          /* up to which tanh(x / c) is x / c */
    double exact;
};

DEVICE softcap softcap_of(double cap) {
    softcap made;
    made.cap = (float)(cap > 0 && cap < FLT_MIN ? FLT_MIN : cap);
    made.twice_over_cap = cap > 0 ? (float)fmin(2 / cap, (double)FLT_MAX) : 0;
    made.small = 1e-4F * made.cap;
    made.exact = cap;
    return made;
}

/* With E = exp(2x/c): near = E / (E + 1) and far = 1 / (E + 1), so that tanh(x/c) = 1 - 2 far = 2 near - 1.
 * Neither is formed by cancellation. */
struct saturation {
    float near;
    float far;
};

DEVICE saturation saturation_of(float x, const softcap &cap) {
    const float less = expf(-fabsf(x) * cap.twice_over_cap);
    const float larger = 1 / (1 + less);
    const float smaller = less * larger;
    saturation made;
    made.near = x > 0 ? larger : smaller;
    made.far = x > 0 ? smaller : larger;
    return made;
}

/* A logit that others are compared with. */
struct reference {
    float x;
    float scale; /* 2 c near(x), with a softcap */
};

template <bool OPTIONS> DEVICE reference reference_of(float x, const softcap &cap) {
    reference made;
    made.x = x;
    made.scale = OPTIONS && cap.cap > 0 ? 2 * cap.cap * saturation_of(x, cap).near : 0;
    return made;
}

/* z(x) - z(reference). With a softcap it is 2 c near(reference) far(x) expm1(2 (x - reference) / c): products
 * alone, so that it has all its digits where tanh has lost them. */
template <bool OPTIONS> DEVICE float distance(float x, const reference &from, const softcap &cap) {
    const float plain = x - from.x;
    if (!OPTIONS || !(cap.cap > 0) || (fabsf(x) <= cap.small && fabsf(from.x) <= cap.small))
        return plain;
    return from.scale * saturation_of(x, cap).far * expm1f(plain * cap.twice_over_cap);
}

constexpr float LOG2_OF_E = 1.44269502F;
constexpr float LOG_OF_2 = 0.693147182F;

/* exp(x): within 2.4e-7, and 6e-8 more for each unit of x. */
DEVICE float exp_of(float x) {
    return exp2_approximate(x * LOG2_OF_E);
}

/* exp(x): within 3e-7, and 2.8e-9 more for each unit of x: what the multiplication lost is brought back. For
 * sums, of which the loss of a confident token is the quotient. */
DEVICE float careful_exp_of(float x) {
    const float at_least = maximum(x, -150.0F); /* else -inf - -inf */
    const float power = at_least * LOG2_OF_E;
    const float value = exp2_approximate(power);
    return fmaf(value, fmaf(power, -LOG_OF_2, at_least), value);
}

/* z and dz/dx in double, for the few numbers of a row, and for the sum of all z under label smoothing: that
 * sum and lse are large numbers whose difference is the loss. */
DEVICE double capped(double x, double cap) {
    return cap > 0 ? cap * tanh(x / cap) : x;
}

DEVICE double slope_of(double x, double cap) {
    if (!(cap > 0))
        return 1;
    const double less = exp(-2 * fabs(x) / cap);
    return 4 * less / ((1 + less) * (1 + less));
}

/* Of the logits that somebody has seen, but for the label's. */
struct partial {
    float reference; /* a logit, no more than slack_of() below the largest; -FLT_MAX before any */
    double others;   /* sum of exp(z - z(reference)) */
    double sum;      /* of the z, where it is wanted */
};

DEVICE partial no_partial() {
    partial none;
    none.reference = -FLT_MAX;
    none.others = 0;
    none.sum = 0;
    return none;
}

/* Brings the sum to another reference. */
template <bool OPTIONS> DEVICE void refer(partial *p, const reference &to, const softcap &cap) {
    p->others *= (double)careful_exp_of(distance<OPTIONS>(p->reference, to, cap));
    p->reference = to.x;
}

/* A thread's sum while it grows. It changes its reference when a logit is slack_of() above it: what was
 * summed until then is small by comparison, and the rounding of its new scale with it. */
template <bool OPTIONS> struct running_sum {
    reference from;
    float others;
    double sum;

    DEVICE running_sum begin(const softcap &cap) {
        running_sum none;
        none.from = reference_of<OPTIONS>(-FLT_MAX, cap);
        none.others = 0;
        none.sum = 0;
        return none;
    }
};

/* None under a softcap, where distance() takes no logit above the reference. */
template <bool OPTIONS> DEVICE float slack_of(const softcap &cap) {
    return OPTIONS && cap.cap > 0 ? 0.0F : 8.0F;
}

template <bool OPTIONS> DEVICE partial partial_of(const running_sum<OPTIONS> &running) {
    partial p;
    p.reference = running.from.x;
    p.others = (double)running.others;
    p.sum = running.sum;
    return p;
}

/* Takes in `count` logits but the one at `skipped` (`count` or more: none). Those before `begin` and from
 * `end` on are not there. */
template <bool OPTIONS, int COUNT>
DEVICE void take_in(running_sum<OPTIONS> *running, const float (&x)[COUNT], bool all, int begin, int end,
                    int skipped, const softcap &cap, bool with_sum) {
    float largest = -FLT_MAX;
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        if (all || (i >= begin && i < end && i != skipped))
            largest = maximum(largest, x[i]);
    /* Not >, so that NaN comes in too. */
    if (!(largest <= running->from.x + slack_of<OPTIONS>(cap))) {
        const reference to = reference_of<OPTIONS>(largest, cap);
        running->others *= careful_exp_of(distance<OPTIONS>(running->from.x, to, cap));
        running->from = to;
    }
    float powers[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        const bool counts = all || (i >= begin && i < end && i != skipped);
        powers[i] = counts ? careful_exp_of(distance<OPTIONS>(x[i], running->from, cap)) : 0;
    }
#pragma unroll
    for (int step = 1; step < COUNT; step *= 2)
#pragma unroll
        for (int i = 0; i + step < COUNT; i += 2 * step)
            powers[i] += powers[i + step];
    running->others += powers[0];
    if (OPTIONS && with_sum)
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            if (all || (i >= begin && i < end))
                running->sum += capped((double)x[i], cap.exact);
}

/* The sums of a warp's threads, in all of them. */
template <bool OPTIONS> DEVICE partial of_warp(partial p, const softcap &cap) {
    float largest = p.reference;
    for (int mask = WARP / 2; mask > 0; mask /= 2)
        largest = maximum(largest, shuffle_xor(largest, mask));
    refer<OPTIONS>(&p, reference_of<OPTIONS>(largest, cap), cap);
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        p.others += shuffle_xor(p.others, mask);
        if (OPTIONS)
            p.sum += shuffle_xor(p.sum, mask);
    }
    return p;
}

/* The softmax of a row, from the sums of all and its label's logit. False for logits that have none: NaN,
 * +inf, or nothing but -inf. */
DEVICE bool finish_softmax(const partial &all, float label_logit, double cap, loss_softmax *softmax) {
    const float largest = maximum(all.reference, label_logit);
    /* exp(z) of -inf is 0 by any reference, and that of -FLT_MAX, which masks are made of too, is 1 by this
     * one; a cap makes them the same number. */
    const bool none = all.reference == -FLT_MAX && (cap > 0 || all.others == 0);
    const bool nothing = none && !(label_logit >= -FLT_MAX);
    const double reference = capped((double)all.reference, cap);
    softmax->target_logit = capped((double)label_logit, cap);
    softmax->maximum = capped((double)largest, cap);
    softmax->largest = (double)largest;
    softmax->reference = (double)largest;
    softmax->target = exp(softmax->target_logit - softmax->maximum);
    softmax->others = all.others * exp(reference - softmax->maximum);
    softmax->sum = all.sum;
    softmax->target_slope = slope_of((double)label_logit, cap);
    const double total = softmax->target + softmax->others;
    return !nothing && largest <= FLT_MAX && total > 0 && total <= DBL_MAX;
}

#endif
