#ifndef VISATB_TESTS_FUZZ_FILES_H
#define VISATB_TESTS_FUZZ_FILES_H

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's entry point, also called by test_fuzz_corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
