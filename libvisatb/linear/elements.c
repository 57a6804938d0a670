/* Unlike cpu/convert.c this is for whole matrices: plain loops without branches, which compilers turn into
 * vectors. */
#include "linear/elements.h"

#include "cpu/convert.h"

#include <string.h>

bool elements_are_narrow(visatb_dtype dtype) {
    return dtype == VISATB_DTYPE_BFLOAT16 || dtype == VISATB_DTYPE_FLOAT16;
}

static float float_of_bits(uint32_t bits) {
    float value = 0;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value) {
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void widen_bfloat16(const uint16_t *elements, int64_t count, float *wide) {
    for (int64_t i = 0; i < count; ++i)
        wide[i] = float_of_bits((uint32_t)elements[i] << 16);
}

/* Exponents are raised by 112, those of infinity and NaN by 224. A subnormal gets the leading 1 that it has
 * not, as a float of its size, and loses it again: no subnormal float is formed, which a CPU that was told to
 * flush them would take for 0. */
static void widen_float16(const uint16_t *elements, int64_t count, float *wide) {
    const uint32_t raise = UINT32_C(112) << 23;
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t shifted = (elements[i] & UINT32_C(0x7fff)) << 13;
        const uint32_t exponent = shifted & UINT32_C(0x0f800000);
        const uint32_t normal = shifted + raise + (exponent == UINT32_C(0x0f800000) ? raise : 0);
        const uint32_t one = raise + (UINT32_C(1) << 23);
        const uint32_t subnormal = bits_of_float(float_of_bits(shifted + one) - float_of_bits(one));
        const uint32_t sign = (elements[i] & UINT32_C(0x8000)) << 16;
        wide[i] = float_of_bits((exponent == 0 ? subnormal : normal) | sign);
    }
}

void elements_widen(visatb_dtype dtype, const void *elements, int64_t count, void *wide) {
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: widen_bfloat16(elements, count, wide); break;
    case VISATB_DTYPE_FLOAT16: widen_float16(elements, count, wide); break;
    default: memcpy(wide, elements, (size_t)count * convert_element_size(dtype)); break;
    }
}

enum { TILE = 256 };

void elements_narrow(visatb_dtype dtype, const void *wide, int64_t count, void *elements) {
    if (!elements_are_narrow(dtype)) {
        memcpy(elements, wide, (size_t)count * convert_element_size(dtype));
        return;
    }
    double tile[TILE];
    for (int64_t first = 0; first < count; first += TILE) {
        const int64_t length = count - first < TILE ? count - first : TILE;
        convert_read(VISATB_DTYPE_FLOAT32, wide, first, length, tile);
        convert_write(dtype, tile, first, length, elements);
    }
}
