#include "exp_of_path.h"

#include EXP_OF_PATH /* NOLINT(bugprone-suspicious-include): what is tested is static in it */

double exp_of_path(float near, int64_t count, const float *z, const float *low, float *e) {
    const reference at = reference_near(near);
    for (int64_t i = 0; i < count; i += LANES)
        vec_store(e + i, exp_of(vec_load(z + i), low != NULL ? low + i : NULL, at, at.base != 0));
    return reference_value(at);
}

double exp_of_path_nonpositive(double x) {
    return exp_nonpositive(x);
}
