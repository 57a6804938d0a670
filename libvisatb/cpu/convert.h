/* Elements of any type to double and back, in tiles: short runs of one row, small enough for the stack. */
#ifndef VISATB_CPU_CONVERT_H
#define VISATB_CPU_CONVERT_H

#include "visatb.h"

/* Bytes of one element; 0 for what is no visatb_dtype. */
size_t convert_element_size(visatb_dtype dtype);

/* tile[0 .. count) = elements first .. first + count of the row. Exact. */
void convert_read(visatb_dtype dtype, const void *row, int64_t first, int64_t count, double *tile);

/* Elements first .. first + count of the row = tile[0 .. count), rounded once: to nearest, ties to even, too
 * large to infinity; NaN stays NaN. */
void convert_write(visatb_dtype dtype, const double *tile, int64_t first, int64_t count, void *row);

#endif
