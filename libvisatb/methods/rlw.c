/* Random loss weighting: normal draws by a generator that counts (Philox 4x32-10), so that a step's draws
 * need nothing but the seed and its number. */
#include "methods/method.h"

#include <math.h>

enum { PHILOX_ROUNDS = 10 };

/* Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (2011). */
static void philox(uint32_t counter[4], uint64_t seed) {
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const uint64_t first = (uint64_t)counter[0] * 0xd2511f53U;
        const uint64_t second = (uint64_t)counter[2] * 0xcd9e8d57U;
        counter[0] = (uint32_t)(second >> 32) ^ counter[1] ^ key[0];
        counter[1] = (uint32_t)second;
        counter[2] = (uint32_t)(first >> 32) ^ counter[3] ^ key[1];
        counter[3] = (uint32_t)first;
        key[0] += 0x9e3779b9U;
        key[1] += 0xbb67ae85U;
    }
}

/* A multiple of 2^-53 in [0, 1). */
static double uniform(uint32_t low, uint32_t high) {
    return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

/* Two draws of a block by Box and Muller. */
static void normal_pair(uint64_t seed, uint64_t step, uint64_t block, double pair[2]) {
    static const double turn = 6.283185307179586;
    uint32_t bits[4] = {(uint32_t)step, (uint32_t)(step >> 32), (uint32_t)block, (uint32_t)(block >> 32)};
    philox(bits, seed);
    /* In (0, 1]: its logarithm is finite. */
    const double radius = sqrt(-2.0 * log(1.0 - uniform(bits[0], bits[1])));
    const double angle = turn * uniform(bits[2], bits[3]);
    pair[0] = radius * cos(angle);
    pair[1] = radius * sin(angle);
}

void rlw_values(uint64_t seed, uint64_t step, size_t tasks, double *values) {
    for (size_t task = 0; task < tasks; task += 2) {
        double pair[2];
        normal_pair(seed, step, task / 2, pair);
        values[task] = pair[0];
        if (task + 1 < tasks)
            values[task + 1] = pair[1];
    }
}
