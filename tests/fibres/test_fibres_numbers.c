/* Conversions, against a search among all values of the narrow types in double. */
#include "kernels_of_test.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct narrow_type {
    int fraction_bits;
    int bias;
    uint32_t infinity;
} narrow_type;

static const narrow_type half = {10, 15, 0x7c00};
static const narrow_type bf16 = {7, 127, 0x7f80};

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Of a positive one; that of infinity is what would follow the largest finite one. */
static double value_of(const narrow_type *t, uint32_t bits) {
    const uint32_t exponent = bits >> t->fraction_bits;
    const uint32_t fraction = bits & ((1U << t->fraction_bits) - 1);
    const double whole = exponent > 0 ? 1 : 0;
    const int power = exponent > 0 ? (int)exponent - t->bias : 1 - t->bias;
    return ldexp(whole + ldexp(fraction, -t->fraction_bits), power);
}

static uint32_t nearest(const narrow_type *t, float x) {
    const uint32_t sign = signbit(x) ? 0x8000 : 0;
    const double size = fabs((double)x);
    if (size >= value_of(t, t->infinity))
        return sign | t->infinity;
    uint32_t below = 0, above = t->infinity; /* value_of(below) <= size < value_of(above) */
    while (above - below > 1) {
        const uint32_t middle = (below + above) / 2;
        if (value_of(t, middle) <= size)
            below = middle;
        else
            above = middle;
    }
    const double to_below = size - value_of(t, below), to_above = value_of(t, above) - size;
    const bool upwards = to_above < to_below || (to_above == to_below && below % 2 == 1);
    return sign | (upwards ? above : below);
}

static void check(float x) {
    if (isnan(x)) {
        assert_true((number_pack_half(x, 0) & 0x7fff) > half.infinity);
        assert_true((number_pack_bf16(x, 0) & 0x7fff) > bf16.infinity);
        return;
    }
    const uint32_t h = nearest(&half, x), b = nearest(&bf16, x);
    if (number_pack_half(x, 1) != (h | 0x3c00U << 16) || number_pack_half(1, x) != (h << 16 | 0x3c00U))
        fail_msg("%a as a half is %#x, expected %#x", (double)x, number_pack_half(x, 1) & 0xffff, h);
    if (number_pack_bf16(x, 1) != (b | 0x3f80U << 16) || number_pack_bf16(1, x) != (b << 16 | 0x3f80U))
        fail_msg("%a as bf16 is %#x, expected %#x", (double)x, number_pack_bf16(x, 1) & 0xffff, b);
}

/* Every sign, exponent and top of a fraction, with what decides the rounding below it. */
static void packing_rounds_to_nearest_even(void **state) {
    (void)state;
    static const uint32_t ends[] = {0,      1,      0xfff,  0x1000, 0x1001, 0x1fff,
                                    0x2000, 0x7fff, 0x8000, 0x8001, 0xf000, 0xffff};
    for (uint32_t top = 0; top < 0x10000; ++top)
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; ++i)
            check(float_of(top << 16 | ends[i]));
    uint32_t bits = 1;
    for (int i = 0; i < 200000; ++i) {
        bits = bits * 1664525U + 1013904223U;
        check(float_of(bits));
        check(float_of(0x33000000U + bits % 0x06000000U)); /* where halves are subnormal */
    }
    assert_int_equal(number_pack_half(65519.996F, 65520.0F), 0x7c007bff);
    assert_int_equal(number_pack_half(INFINITY, -INFINITY), 0xfc007c00);
    assert_int_equal(number_pack_bf16(-INFINITY, FLT_MAX), 0x7f80ff80);
    assert_int_equal(number_pack_half(-0x1p-25F, 0x1.8p-24F), 0x00028000);
}

static void widening_is_exact(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float wide = number_widen_half(0xabcd0000U | bits);
        const uint32_t size = bits & 0x7fff;
        assert_true((signbit(wide) != 0) == (bits > 0x7fff) || size > half.infinity);
        if (size > half.infinity)
            assert_true(isnan(wide));
        else if (size == half.infinity)
            assert_true(isinf(wide));
        else
            assert_true(fabs((double)wide) == value_of(&half, size));
    }
}

static void exp2_is_near_and_flushes(void **state) {
    (void)state;
    for (int i = -126 * 64; i < 128 * 64; ++i) {
        const double exact = exp2(i / 64.0);
        assert_true(fabs(number_exp2((float)i / 64) - exact) <= 2.4e-7 * exact);
    }
    assert_true(number_exp2(-126) == FLT_MIN);
    assert_true(number_exp2(nextafterf(-126, -127)) >= 0);
    assert_true(number_exp2(-126.5F) == 0);
    assert_true(number_exp2(-INFINITY) == 0);
    assert_true(number_exp2(128) == INFINITY);
    assert_true(isnan(number_exp2(NAN)));
}

static void maximum_keeps_nan(void **state) {
    (void)state;
    assert_true(number_maximum(1, 2) == 2 && number_maximum(2, 1) == 2);
    assert_true(number_maximum(-INFINITY, -3) == -3);
    assert_true(isnan(number_maximum(NAN, INFINITY)) && isnan(number_maximum(INFINITY, NAN)));
    assert_true(!signbit(number_maximum(-0.0F, 0.0F)) && !signbit(number_maximum(0.0F, -0.0F)));
    assert_true(signbit(number_maximum(-0.0F, -0.0F)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_rounds_to_nearest_even),
        cmocka_unit_test(widening_is_exact),
        cmocka_unit_test(exp2_is_near_and_flushes),
        cmocka_unit_test(maximum_keeps_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
