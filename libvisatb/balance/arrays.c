/* The public functions on plain arrays: they check what they are given, and turn a fault into a sentence. */
#include "balance/balance.h"
#include "balance/layout.h"
#include "common/error.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static visatb_status check_array(const char *function, const char *name, const double *values, size_t count) {
    if (!values)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: %s is NULL; expected %zu values", function, name, count);
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            return error_set(VISATB_ERROR_ARGUMENT, "%s: %s[%zu] = %g; expected a finite number", function,
                             name, i, values[i]);
    }
    return VISATB_OK;
}

static visatb_status check_out(const char *function, const char *name, const void *out) {
    if (out)
        return VISATB_OK;
    return error_set(VISATB_ERROR_ARGUMENT, "%s: %s is NULL; expected an array for the result", function,
                     name);
}

static visatb_status check_units(const char *function, size_t units) {
    if (units < 2)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: units = %zu; expected 2 or more", function, units);
    if (units > PTRDIFF_MAX / sizeof(double) / units)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: units = %zu; expected a matrix that fits into memory",
                         function, units);
    return VISATB_OK;
}

static visatb_status report_fault(const char *function, balance_fault fault) {
    switch (fault.kind) {
    case BALANCE_OK: return VISATB_OK;
    case BALANCE_DENOMINATOR_ZERO:
        return error_set(
            VISATB_ERROR_DATA,
            "%s: metric %zu: training on its own unit %zu left it at %g (from %g); a contribution "
            "to it would divide by zero (Eq. 3, 10)",
            function, fault.metric, fault.unit, fault.after, fault.before);
    case BALANCE_DENOMINATOR_NEGATIVE:
        return error_set(
            VISATB_ERROR_DATA,
            "%s: metric %zu: training on its own unit %zu made it worse (%g -> %g); every "
            "contribution to it would change its sign (VISATB_ALLOW_NEGATIVE_DENOMINATOR lets it "
            "through)",
            function, fault.metric, fault.unit, fault.before, fault.after);
    case BALANCE_SCORE_NOT_POSITIVE:
        return error_set(VISATB_ERROR_DATA,
                         "%s: metric %zu: a ratio of the scores %g and %g needs a positive "
                         "divisor",
                         function, fault.metric, fault.before, fault.after);
    case BALANCE_OVERFLOW:
    case BALANCE_MEAN_OVERFLOW:
    case BALANCE_DIFFICULTY_OVERFLOW:
        return error_set(VISATB_ERROR_DATA,
                         "%s: metric %zu: the scores %g and %g are too far apart for a finite "
                         "result",
                         function, fault.metric, fault.before, fault.after);
    case BALANCE_NO_TEMPERATURE:
        return error_set(
            VISATB_ERROR_DATA,
            "%s: no temperature of 4, 2, 1, 0.5, 0.25, 0.125 keeps every weight within the range; "
            "give one, or a wider range",
            function);
    }
    return VISATB_OK;
}

visatb_status visatb_contribution(const visatb_layout *layout, const double *trained, const double *baseline,
                                  uint32_t flags, double *contribution) {
    static const char function[] = "visatb_contribution";
    if (flags & ~VISATB_ALLOW_NEGATIVE_DENOMINATOR)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: flags = %#x; expected 0 or "
                         "VISATB_ALLOW_NEGATIVE_DENOMINATOR",
                         function, (unsigned)flags);
    resolved_layout resolved;
    visatb_status status = layout_resolve(function, layout, &resolved);
    if (status != VISATB_OK)
        return status;

    double *result = NULL;
    const size_t units = resolved.units, metrics = resolved.metrics;
    status = check_array(function, "trained", trained, units * metrics);
    if (status == VISATB_OK)
        status = check_array(function, "baseline", baseline, metrics);
    if (status == VISATB_OK)
        status = check_out(function, "contribution", contribution);
    if (status != VISATB_OK)
        goto done;

    result = malloc(units * units * sizeof *result);
    if (!result) {
        status = error_out_of_memory(function);
        goto done;
    }
    const balance_fault fault =
        balance_contribution(units, metrics, resolved.layout, trained, baseline,
                             (flags & VISATB_ALLOW_NEGATIVE_DENOMINATOR) != 0, result);
    status = report_fault(function, fault);
    for (size_t k = 0; status == VISATB_OK && k < units * units; k++)
        contribution[k] = result[k];
done:
    free(result);
    layout_free(&resolved);
    return status;
}

visatb_status visatb_contribution_means(size_t units, const double *contribution, double *outward,
                                        double *inward) {
    static const char function[] = "visatb_contribution_means";
    visatb_status status = check_units(function, units);
    if (status == VISATB_OK)
        status = check_array(function, "contribution", contribution, units * units);
    if (status == VISATB_OK)
        status = check_out(function, "outward", outward);
    if (status == VISATB_OK)
        status = check_out(function, "inward", inward);
    if (status == VISATB_OK)
        balance_means(units, contribution, outward, inward);
    return status;
}

visatb_status visatb_difficulty(const visatb_layout *layout, const double *low, const double *high,
                                double *difficulty) {
    static const char function[] = "visatb_difficulty";
    resolved_layout resolved;
    visatb_status status = layout_resolve(function, layout, &resolved);
    if (status != VISATB_OK)
        return status;

    double *result = NULL;
    status = check_array(function, "low", low, resolved.metrics);
    if (status == VISATB_OK)
        status = check_array(function, "high", high, resolved.metrics);
    if (status == VISATB_OK)
        status = check_out(function, "difficulty", difficulty);
    if (status != VISATB_OK)
        goto done;

    result = malloc(resolved.units * sizeof *result);
    if (!result) {
        status = error_out_of_memory(function);
        goto done;
    }
    status = report_fault(
        function, balance_difficulty(resolved.units, resolved.metrics, resolved.layout, low, high, result));
    for (size_t i = 0; status == VISATB_OK && i < resolved.units; i++)
        difficulty[i] = result[i];
done:
    free(result);
    layout_free(&resolved);
    return status;
}

static visatb_status check_temperature(const char *function, double temperature, bool automatic_allowed) {
    if (isfinite(temperature) && (temperature > 0.0 || (automatic_allowed && temperature == 0.0)))
        return VISATB_OK;
    return error_set(VISATB_ERROR_ARGUMENT, "%s: temperature = %g; expected a finite number above 0%s",
                     function, temperature, automatic_allowed ? ", or 0 for automatic" : "");
}

visatb_status visatb_softmax_weights(size_t units, const double *values, double temperature,
                                     double *weights) {
    static const char function[] = "visatb_softmax_weights";
    if (units == 0)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: units = 0; expected 1 or more", function);
    visatb_status status = check_array(function, "values", values, units);
    if (status == VISATB_OK)
        status = check_temperature(function, temperature, false);
    if (status == VISATB_OK)
        status = check_out(function, "weights", weights);
    if (status == VISATB_OK)
        balance_softmax(units, values, 1.0, temperature, weights);
    return status;
}

static visatb_status check_options(const char *function, const visatb_balance_options *options,
                                   balance_mix *mix) {
    const visatb_balance_options defaults = VISATB_BALANCE_OPTIONS_INIT;
    const visatb_balance_options *used = options ? options : &defaults;
    if (used->size != sizeof *used)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: options->size = %zu; expected %zu (start from VISATB_BALANCE_OPTIONS_INIT)",
                         function, used->size, sizeof *used);
    const double alphas[3] = {used->alpha_out, used->alpha_in, used->alpha_difficulty};
    static const char *const names[3] = {"alpha_out", "alpha_in", "alpha_difficulty"};
    for (int k = 0; k < 3; k++) {
        if (!isfinite(alphas[k]) || alphas[k] < 0.0)
            return error_set(VISATB_ERROR_ARGUMENT, "%s: %s = %g; expected a finite number of 0 or more",
                             function, names[k], alphas[k]);
        mix->alphas[k] = alphas[k];
    }
    double sum = 0.0;
    if (!balance_alphas_fit(alphas, &sum))
        return error_set(VISATB_ERROR_ARGUMENT, "%s: the alphas sum to %g; expected 1 within %g", function,
                         sum, BALANCE_ALPHA_TOLERANCE);
    if (!(used->range_low <= 1.0 && used->range_high >= 1.0))
        return error_set(VISATB_ERROR_ARGUMENT, "%s: range [%g, %g]; expected one that contains 1", function,
                         used->range_low, used->range_high);
    mix->temperature = used->temperature;
    mix->range_low = used->range_low;
    mix->range_high = used->range_high;
    return check_temperature(function, used->temperature, true);
}

visatb_status visatb_balance_weights(size_t units, const double *outward, const double *inward,
                                     const double *difficulty, const visatb_balance_options *options,
                                     double *weights, double *components, double *temperature) {
    static const char function[] = "visatb_balance_weights";
    balance_mix mix;
    visatb_status status = check_units(function, units);
    if (status == VISATB_OK)
        status = check_array(function, "outward", outward, units);
    if (status == VISATB_OK)
        status = check_array(function, "inward", inward, units);
    if (status == VISATB_OK)
        status = check_array(function, "difficulty", difficulty, units);
    if (status == VISATB_OK)
        status = check_out(function, "weights", weights);
    if (status == VISATB_OK)
        status = check_options(function, options, &mix);
    if (status != VISATB_OK)
        return status;

    double *const result = malloc(4 * units * sizeof *result);
    if (!result)
        return error_out_of_memory(function);
    double used_temperature = 0.0;
    status = report_fault(function, balance_combine(units, outward, inward, difficulty, &mix, result,
                                                    result + units, &used_temperature));
    if (status == VISATB_OK) {
        for (size_t i = 0; i < units; i++)
            weights[i] = result[i];
        for (size_t k = 0; components && k < 3 * units; k++)
            components[k] = result[units + k];
        if (temperature)
            *temperature = used_temperature;
    }
    free(result);
    return status;
}

visatb_status visatb_improvement(size_t metrics, const double *scores, const double *baseline,
                                 const uint8_t *lower_is_better, double *improvement) {
    static const char function[] = "visatb_improvement";
    if (metrics == 0)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: metrics = 0; expected 1 or more", function);
    visatb_status status = check_array(function, "scores", scores, metrics);
    if (status == VISATB_OK)
        status = check_array(function, "baseline", baseline, metrics);
    if (status == VISATB_OK)
        status = check_out(function, "improvement", improvement);
    if (status != VISATB_OK)
        return status;

    bool *const lower = calloc(metrics, sizeof *lower);
    if (!lower)
        return error_out_of_memory(function);
    for (size_t m = 0; lower_is_better && m < metrics; m++)
        lower[m] = lower_is_better[m] != 0;
    double result = 0.0;
    status = report_fault(function, balance_improvement(metrics, scores, baseline, lower, &result));
    if (status == VISATB_OK)
        *improvement = result;
    free(lower);
    return status;
}

visatb_status visatb_improvement_summary(size_t tasks, const double *improvements, double *delta_improvement,
                                         double *delta_error) {
    static const char function[] = "visatb_improvement_summary";
    if (tasks == 0)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: tasks = 0; expected 1 or more", function);
    const visatb_status status = check_array(function, "improvements", improvements, tasks);
    if (status != VISATB_OK)
        return status;
    double improvement = 0.0, error = 0.0;
    balance_improvement_summary(tasks, improvements, &improvement, &error);
    if (delta_improvement)
        *delta_improvement = improvement;
    if (delta_error)
        *delta_error = error;
    return VISATB_OK;
}
