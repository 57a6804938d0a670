/* Elements of the caller's tensors as the floats or doubles that products are made of. */
#ifndef VISATB_LINEAR_ELEMENTS_H
#define VISATB_LINEAR_ELEMENTS_H

#include "visatb.h"

#include <stdbool.h>

/* Whether elements of this type must be converted before they can be multiplied. */
bool elements_are_narrow(visatb_dtype dtype);

/* So many elements as floats, or as doubles for FLOAT64. Exact. */
void elements_widen(visatb_dtype dtype, const void *elements, int64_t count, void *wide);

/* The way back, rounded once. */
void elements_narrow(visatb_dtype dtype, const void *wide, int64_t count, void *elements);

#endif
