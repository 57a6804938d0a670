/* The instructions of primitives.cuh on numbers, bit for bit but for exp2_approximate, which is less
 * accurate. */
#ifndef VISATB_TESTS_FIBRES_NUMBERS_H
#define VISATB_TESTS_FIBRES_NUMBERS_H

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

static inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

/* As far off as a GPU's may be, to one side or the other; powers of two are exact there too. */
static inline float exp2_approximate(float x) {
    const float y = std::exp2(x);
    if (y < FLT_MIN)
        return 0;
    if (!(std::floor(x) != x))
        return y;
    return y + y * (bits_of_float(x) % 2 == 0 ? 1.15e-7F : -1.15e-7F);
}

static inline float maximum(float a, float b) {
    if (std::isnan(a) || std::isnan(b))
        return float_of_bits(0x7fffffffU);
    if (a == b)
        return std::signbit(a) ? b : a;
    return a > b ? a : b;
}

namespace fibres {

/* Drops the low bits, to the nearest, ties to even; what is carried into the exponent belongs there. */
static inline uint32_t round_off(uint32_t bits, int dropped) {
    const uint32_t odd = (bits >> dropped) & 1U;
    return (bits + (1U << (dropped - 1)) - 1U + odd) >> dropped;
}

static inline uint32_t bf16_of(float value) {
    const uint32_t bits = bits_of_float(value);
    return std::isnan(value) ? 0x7fffU : round_off(bits, 16);
}

static inline uint32_t half_of(float value) {
    if (std::isnan(value))
        return 0x7fffU;
    const uint32_t sign = (bits_of_float(value) >> 16) & 0x8000U;
    const float size = std::fabs(value);
    if (size >= 65520.0F) /* halfway from the largest finite one to 2^16 */
        return sign | 0x7c00U;
    if (size < 0x1p-14F) /* the places after 2^-24 do not fit behind 0.5: the sum is rounded as a half is */
        return sign | (bits_of_float(size + 0.5F) - bits_of_float(0.5F));
    return sign | round_off(bits_of_float(size) - ((127U - 15U) << 23), 13);
}

} // namespace fibres

static inline uint32_t pack_bf16(float low, float high) {
    return fibres::bf16_of(low) | fibres::bf16_of(high) << 16;
}

static inline uint32_t pack_half(float low, float high) {
    return fibres::half_of(low) | fibres::half_of(high) << 16;
}

static inline float widen_half(uint32_t bits) {
    const uint32_t sign = (bits & 0x8000U) << 16;
    const uint32_t exponent = (bits >> 10) & 31U;
    const uint32_t fraction = bits & 0x3ffU;
    if (exponent == 31)
        return float_of_bits(sign | 0x7f800000U | fraction << 13);
    if (exponent == 0)
        return float_of_bits(sign | bits_of_float(static_cast<float>(fraction) * 0x1p-24F));
    return float_of_bits(sign | (exponent + 127U - 15U) << 23 | fraction << 13);
}

#endif
