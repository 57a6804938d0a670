/* For floats, on any machine. */
typedef float scalar;

#include "blas/plain_vector.h"

#include "blas/plain_block.h"

VISATB_PLAIN_PRODUCT(plain_float)
