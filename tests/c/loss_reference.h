/* The VITW loss by its formula, element by element, in long double, for tests to compare with; and the
 * formats of logits and gradients. Shares nothing with the library but the numbers of visatb_dtype. */
#ifndef VISATB_TESTS_LOSS_REFERENCE_H
#define VISATB_TESTS_LOSS_REFERENCE_H

#include "visatb.h"

#include <stdbool.h>

/* One row: nll = softplus(a), 1 - p(label) = sigmoid(a), where a = log(sum of the others' exp) - label's
 * logit. */
typedef struct reference_row {
    long double nll;
    long double lse;
    long double doubt;   /* 1 - p(label) */
    long double maximum; /* of the logits */
    long double above;   /* lse - maximum */
} reference_row;

reference_row reference_row_of(int64_t vocab, const double *logits, int64_t label);

/* d nll / d logits[i]. */
long double reference_derivative(const reference_row *row, const double *logits, int64_t label, int64_t i);

/* z = c tanh(x / c) and dz/dx; x and 1 where c is 0. */
long double reference_capped(double x, double c);
long double reference_slope(double x, double c);

/* The options that add to the nll, for logits z that are capped already. */
typedef struct reference_options {
    double label_smoothing;
    double z_loss;
} reference_options;

/* l = (1 - e) nll + (e / vocab) sum (lse - z_j) + zeta lse^2 */
long double reference_loss(const reference_row *row, reference_options options, int64_t vocab,
                           const double *z);

/* d l / d z[i]. */
long double reference_loss_derivative(const reference_row *row, reference_options options, int64_t vocab,
                                      const double *z, int64_t label, int64_t i);

size_t reference_size(visatb_dtype dtype);

/* Element i of an array of dtype. */
double reference_get(visatb_dtype dtype, const void *array, int64_t i);

/* Stores the element nearest to the value; of two equally near, the even one. */
void reference_put(visatb_dtype dtype, void *array, int64_t i, long double value);

/* The finite values of bf16 and fp16 by their bits: 0 is 0, and each is the next larger one. */
int reference_half_count(visatb_dtype dtype);
double reference_half(visatb_dtype dtype, int bits);

/* Whether two elements of bf16 or fp16 are neighbours in their format, or the same. */
bool reference_within_one_ulp(const void *element, const void *other);

/* The smallest normal number of the format. */
double reference_smallest_normal(visatb_dtype dtype);

#endif
