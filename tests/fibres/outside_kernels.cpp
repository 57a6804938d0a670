/* Functions of kernels, called where nvcc would not have them called. */
#include "kernels_of_test.h"

#include "cuda/primitives.cuh"

int kernel_outside(int unused) {
    block_barrier();
    return unused;
}

uint32_t number_pack_bf16(float low, float high) {
    return pack_bf16(low, high);
}

uint32_t number_pack_half(float low, float high) {
    return pack_half(low, high);
}

float number_widen_half(uint32_t bits) {
    return widen_half(bits);
}

float number_exp2(float x) {
    return exp2_approximate(x);
}

float number_maximum(float a, float b) {
    return maximum(a, b);
}
