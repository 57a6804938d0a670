/* What a test asks of fake_cublas.c beside what cuBLAS has; found by dlsym, and missing in a real one. */
#ifndef VISATB_TESTS_FAKE_CUBLAS_H
#define VISATB_TESTS_FAKE_CUBLAS_H

/* Products since the library was loaded, failed ones included. */
int fake_cublas_products(void);

/* The n-th product from now (1: the next) is not computed, and its status is 13. 0: none. */
void fake_cublas_fail_product(int n);

/* The same for creations. */
void fake_cublas_fail_creation(int n);

/* Handles that were created and not destroyed. */
int fake_cublas_handles(void);

#endif
