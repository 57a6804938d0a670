/* For doubles, on any machine. */
typedef double scalar;

#include "blas/plain_vector.h"

#include "blas/plain_block.h"

VISATB_PLAIN_PRODUCT(plain_double)
