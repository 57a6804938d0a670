/* Weights: three softmax weightings, their combination and the choice of temperature (Eq. 4, 5, 7, 8). */
#include "balance/balance.h"

#include <math.h>

/* From flat to sharp: the lowest that still fits separates the tasks the most. */
static const double temperature_grid[] = {4.0, 2.0, 1.0, 0.5, 0.25, 0.125};
#define GRID_SIZE (sizeof temperature_grid / sizeof temperature_grid[0])

void balance_softmax(size_t units, const double *values, double sign, double temperature, double *weights) {
    double largest = -INFINITY;
    for (size_t i = 0; i < units; i++)
        largest = fmax(largest, sign * values[i]);
    double sum = 0.0;
    for (size_t i = 0; i < units; i++) {
        weights[i] = exp((sign * values[i] - largest) / temperature);
        sum += weights[i];
    }
    for (size_t i = 0; i < units; i++)
        weights[i] *= (double)units / sum;
}

bool balance_alphas_fit(const double alphas[3], double *sum) {
    *sum = alphas[0] + alphas[1] + alphas[2];
    return fabs(*sum - 1.0) <= BALANCE_ALPHA_TOLERANCE + 1e-9;
}

static void combine_at(size_t units, const double *outward, const double *inward, const double *difficulty,
                       const balance_mix *mix, double temperature, double *weights, double *components) {
    balance_softmax(units, outward, 1.0, temperature, components);
    balance_softmax(units, inward, -1.0, temperature, components + units);
    balance_softmax(units, difficulty, 1.0, temperature, components + 2 * units);
    const double sum = mix->alphas[0] + mix->alphas[1] + mix->alphas[2];
    for (size_t i = 0; i < units; i++) {
        weights[i] = mix->alphas[0] / sum * components[i] + mix->alphas[1] / sum * components[units + i] +
                     mix->alphas[2] / sum * components[2 * units + i];
    }
}

static bool all_within(size_t units, const double *weights, double low, double high) {
    for (size_t i = 0; i < units; i++) {
        if (weights[i] < low || weights[i] > high)
            return false;
    }
    return true;
}

balance_fault balance_combine(size_t units, const double *outward, const double *inward,
                              const double *difficulty, const balance_mix *mix, double *weights,
                              double *components, double *temperature) {
    *temperature = mix->temperature;
    for (size_t g = GRID_SIZE; mix->temperature == 0.0 && g-- > 0;) {
        combine_at(units, outward, inward, difficulty, mix, temperature_grid[g], weights, components);
        if (all_within(units, weights, mix->range_low, mix->range_high)) {
            *temperature = temperature_grid[g];
            return (balance_fault){.kind = BALANCE_OK};
        }
    }
    if (mix->temperature == 0.0)
        return (balance_fault){.kind = BALANCE_NO_TEMPERATURE};
    combine_at(units, outward, inward, difficulty, mix, mix->temperature, weights, components);
    return (balance_fault){.kind = BALANCE_OK};
}
