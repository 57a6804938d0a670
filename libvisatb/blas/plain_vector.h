/* Vectors of 16 bytes of `scalar`, in the compiler's own terms: for any machine. */
#include <string.h>

typedef scalar vec __attribute__((vector_size(16)));
enum { LANES = 16 / sizeof(scalar), PANEL_ROWS = 4 };

#define VEC static inline __attribute__((always_inline))

VEC vec vec_set(scalar value) {
    vec all = {0};
    return all + value;
}

VEC vec vec_load(const scalar *from) {
    vec a;
    memcpy(&a, from, sizeof a);
    return a;
}

VEC void vec_store(scalar *to, vec a) {
    memcpy(to, &a, sizeof a);
}

VEC vec vec_add(vec a, vec b) {
    return a + b;
}

VEC vec vec_fma(vec a, vec b, vec c) {
    return a * b + c;
}
