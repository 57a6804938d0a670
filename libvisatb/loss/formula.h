/* What a row is worth, and what its gradient is made of, from the softmax of its logits: the one place of
 * these formulas, for C and for CUDA kernels. */
#ifndef VISATB_LOSS_FORMULA_H
#define VISATB_LOSS_FORMULA_H

#include <math.h>

#ifdef __CUDACC__
#define FORMULA static __host__ __device__ inline
#else
#define FORMULA static inline
#endif

/* The softmax of a row, kept apart so that neither the loss nor the gradient of a confident token is formed
 * by cancellation: 1 - p of the label is others / (target + others). z is the capped logit. */
typedef struct loss_softmax {
    double largest;      /* of the logits, before a cap; on a GPU one of them, near it */
    double maximum;      /* of the z */
    double target_logit; /* the label's z */
    double target;       /* exp(target_logit - maximum) */
    double others;       /* the sum of exp(z - maximum) over all but the label */
    double sum;          /* of the z, if wanted */
    double target_slope; /* dz/dx at the label: 1 - (z/c)^2 */
    double reference;    /* for the backend, which kept exp(z - reference) somewhere */
} loss_softmax;

/* The options that the formulas know, and the number that one of them divides by. */
typedef struct loss_options {
    double label_smoothing; /* e */
    double z_loss;          /* zeta */
    double vocab;
} loss_options;

typedef struct loss_value {
    double nll;
    double lse;
    double loss; /* l: the nll and what the options add */
} loss_value;

/* The gradient of entry i is (probability * p_i - uniform) * slope_i; that of the label, target * slope. */
typedef struct loss_terms {
    double probability;
    double uniform;
    double target;
} loss_terms;

/* -log p of the label. Each form is accurate where it is used: the first while p >= 1/2, as nll goes to 0;
 * the second beyond, also where p itself underflows. */
FORMULA double formula_nll(const loss_softmax *softmax) {
    if (softmax->target >= softmax->others)
        return log1p(softmax->others / softmax->target);
    return log(softmax->target + softmax->others) - (softmax->target_logit - softmax->maximum);
}

FORMULA double formula_lse(const loss_softmax *softmax) {
    return softmax->maximum + log(softmax->target + softmax->others);
}

FORMULA loss_value formula_value(const loss_options *options, const loss_softmax *softmax) {
    const double smoothing = options->label_smoothing;
    loss_value value;
    value.nll = formula_nll(softmax);
    value.lse = formula_lse(softmax);
    value.loss = value.nll;
    if (smoothing > 0) {
        /* 0 * inf would be no number. */
        const double plain = smoothing < 1 ? (1 - smoothing) * value.nll : 0;
        value.loss = plain + smoothing * (value.lse - softmax->sum / options->vocab);
    }
    if (options->z_loss > 0)
        value.loss += options->z_loss * value.lse * value.lse;
    return value;
}

/* weight * dl/dz, in parts: (1 + 2 zeta lse) p - (1 - e) onehot - e / vocab. For the label the first two are
 * one term, -(1 - p), which p near 1 would otherwise take its digits from. `lse` is read with a z_loss only.
 */
FORMULA loss_terms formula_terms(const loss_options *options, const loss_softmax *softmax, double lse,
                                 double weight) {
    const double total = softmax->target + softmax->others;
    const double smoothing = options->label_smoothing;
    const double uniform = smoothing / options->vocab;
    const double pull = options->z_loss > 0 ? 2 * options->z_loss * lse : 0;
    loss_terms terms;
    terms.probability = weight * (1 + pull);
    terms.uniform = weight * uniform;
    terms.target =
        weight * (pull * (softmax->target / total) + (smoothing - uniform) - softmax->others / total);
    return terms;
}

#endif
