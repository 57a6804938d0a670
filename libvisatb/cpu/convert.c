/* Elements in memory to double and back. The way back rounds from double straight to the element: by way of
 * float, bf16 and fp16 would be rounded twice, which moves values that lie close to a tie. */
#include "cpu/convert.h"

#include <math.h>
#include <string.h>

/* A 16-bit floating-point format: sign, exponent, mantissa. */
typedef struct half_format {
    int mantissa_bits;
    int smallest_exponent; /* of a normal number */
    uint16_t infinity;
} half_format;

static const half_format bfloat16_format = {
    .mantissa_bits = 7, .smallest_exponent = -126, .infinity = 0x7f80};
static const half_format float16_format = {.mantissa_bits = 10, .smallest_exponent = -14, .infinity = 0x7c00};

enum { DOUBLE_MANTISSA_BITS = 52, DOUBLE_EXPONENT_BIAS = 1023, DOUBLE_EXPONENT_ALL_ONES = 0x7ff };

size_t convert_element_size(visatb_dtype dtype) {
    switch (dtype) {
    case VISATB_DTYPE_FLOAT32: return sizeof(float);
    case VISATB_DTYPE_BFLOAT16:
    case VISATB_DTYPE_FLOAT16: return sizeof(uint16_t);
    case VISATB_DTYPE_FLOAT64: return sizeof(double);
    }
    return 0;
}

static double double_from_half(uint16_t element, half_format format) {
    const unsigned magnitude = element & 0x7fffU;
    const unsigned biased_exponent = magnitude >> format.mantissa_bits;
    const uint64_t mantissa = magnitude & ((1U << format.mantissa_bits) - 1);

    double value = 0;
    if (biased_exponent == 0) {
        value = ldexp((double)mantissa, format.smallest_exponent - format.mantissa_bits);
    } else {
        const int exponent = format.smallest_exponent + (int)biased_exponent - 1;
        const int doubles_exponent =
            magnitude >= format.infinity ? DOUBLE_EXPONENT_ALL_ONES : exponent + DOUBLE_EXPONENT_BIAS;
        const uint64_t bits = (uint64_t)doubles_exponent << DOUBLE_MANTISSA_BITS |
                              mantissa << (DOUBLE_MANTISSA_BITS - format.mantissa_bits);
        memcpy(&value, &bits, sizeof value);
    }
    return (element & 0x8000U) != 0 ? -value : value;
}

static uint16_t half_from_double(double value, half_format format) {
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 48 & 0x8000U);
    const int biased_exponent = (int)(bits >> DOUBLE_MANTISSA_BITS & DOUBLE_EXPONENT_ALL_ONES);
    const uint64_t leading_one = (uint64_t)1 << DOUBLE_MANTISSA_BITS;
    const uint64_t mantissa = bits & (leading_one - 1);

    if (biased_exponent == DOUBLE_EXPONENT_ALL_ONES) {
        const unsigned quiet = mantissa != 0 ? 1U << (format.mantissa_bits - 1) : 0;
        return (uint16_t)(sign | format.infinity | quiet);
    }

    const int above_smallest = biased_exponent - DOUBLE_EXPONENT_BIAS - format.smallest_exponent;
    const int missing = above_smallest < 0 ? -above_smallest : 0;
    const int dropped_bits = DOUBLE_MANTISSA_BITS - format.mantissa_bits + missing;
    /* Beyond this the value is below half of the smallest subnormal, and the shift would leave 64 bits. */
    if (dropped_bits > DOUBLE_MANTISSA_BITS + 1)
        return sign;

    const uint64_t significand = leading_one | mantissa;
    const uint64_t half_way = (uint64_t)1 << (dropped_bits - 1);
    const uint64_t rest = significand & ((half_way << 1) - 1);
    uint64_t kept = significand >> dropped_bits;
    if (rest > half_way || (rest == half_way && (kept & 1) != 0))
        kept += 1;

    /* The leading 1 of a normal number, and a carry out of the mantissa, both raise the exponent by one. */
    const uint64_t exponent = above_smallest > 0 ? (uint64_t)above_smallest : 0;
    const uint64_t magnitude = (exponent << format.mantissa_bits) + kept;
    return (uint16_t)(sign | (magnitude < format.infinity ? magnitude : format.infinity));
}

static void read_half(half_format format, const uint16_t *elements, int64_t count, double *tile) {
    for (int64_t i = 0; i < count; ++i)
        tile[i] = double_from_half(elements[i], format);
}

static void write_half(half_format format, const double *tile, int64_t count, uint16_t *elements) {
    for (int64_t i = 0; i < count; ++i)
        elements[i] = half_from_double(tile[i], format);
}

static void read_float(const float *elements, int64_t count, double *tile) {
    for (int64_t i = 0; i < count; ++i)
        tile[i] = (double)elements[i];
}

static void write_float(const double *tile, int64_t count, float *elements) {
    for (int64_t i = 0; i < count; ++i)
        elements[i] = (float)tile[i];
}

void convert_read(visatb_dtype dtype, const void *row, int64_t first, int64_t count, double *tile) {
    switch (dtype) {
    case VISATB_DTYPE_FLOAT32: read_float((const float *)row + first, count, tile); break;
    case VISATB_DTYPE_BFLOAT16: read_half(bfloat16_format, (const uint16_t *)row + first, count, tile); break;
    case VISATB_DTYPE_FLOAT16: read_half(float16_format, (const uint16_t *)row + first, count, tile); break;
    case VISATB_DTYPE_FLOAT64: memcpy(tile, (const double *)row + first, (size_t)count * sizeof *tile); break;
    }
}

void convert_write(visatb_dtype dtype, const double *tile, int64_t first, int64_t count, void *row) {
    switch (dtype) {
    case VISATB_DTYPE_FLOAT32: write_float(tile, count, (float *)row + first); break;
    case VISATB_DTYPE_BFLOAT16: write_half(bfloat16_format, tile, count, (uint16_t *)row + first); break;
    case VISATB_DTYPE_FLOAT16: write_half(float16_format, tile, count, (uint16_t *)row + first); break;
    case VISATB_DTYPE_FLOAT64: memcpy((double *)row + first, tile, (size_t)count * sizeof *tile); break;
    }
}
