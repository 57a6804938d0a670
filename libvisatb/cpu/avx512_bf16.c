/* AVX-512 with its bf16 instructions: compiled with __AVX512BF16__, the same file takes them. */
#include "cpu/avx512.c"
