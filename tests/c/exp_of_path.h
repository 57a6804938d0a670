/* The exponentials inside one path of the CPU, for test_exp: exp_of_path.c is compiled with the file of that
 * path, and with its flags. */
#ifndef VISATB_TESTS_EXP_OF_PATH_H
#define VISATB_TESTS_EXP_OF_PATH_H

#include <stdint.h>

/* e[i] = exp(z[i] + low[i] - the value returned), which lies near `near`. `low` may be NULL; count is a
 * multiple of 16. */
double exp_of_path(float near, int64_t count, const float *z, const float *low, float *e);

/* exp(x) for x <= 0, in double. */
double exp_of_path_nonpositive(double x);

#endif
