/* SHA-256 (FIPS 180-4), so that a weights file can name the scores it came from. */
#ifndef VISATB_SCORES_SHA256_H
#define VISATB_SCORES_SHA256_H

#include <stddef.h>

/* 64 lower-case hexadecimal digits and a NUL. */
void sha256_hex(const char *bytes, size_t length, char hex[65]);

#endif
