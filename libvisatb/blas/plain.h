/* Our own products, for a machine without BLAS: plain_block.h, built once for each kind of vector. */
#ifndef VISATB_BLAS_PLAIN_H
#define VISATB_BLAS_PLAIN_H

#include "blas/blas.h"

/* For each of them multiply and room_bytes, as struct blas has them. */
void plain_double_multiply(const blas_product *product);
size_t plain_double_room_bytes(int64_t edge);

void plain_float_multiply(const blas_product *product);
size_t plain_float_room_bytes(int64_t edge);

void plain_avx2_multiply(const blas_product *product);
size_t plain_avx2_room_bytes(int64_t edge);

void plain_avx512_multiply(const blas_product *product);
size_t plain_avx512_room_bytes(int64_t edge);

#endif
