/* The state of a method as bytes: little-endian, with a version, what the method was made from, and a
 * checksum.
 *
 *    0  "VISATBMS"
 *    8  version, kind                      uint32
 *   16  tasks, seed, window                uint64
 *   40  temperature                        double
 *   48  base_first, base_end, steps        uint64
 *   72  losses                             doubles, METHOD_ABSENT for none
 *       counts                             uint64
 *       checksum of all before             uint64 */
#include "common/error.h"
#include "methods/method.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define WORD sizeof(uint64_t)
enum { VERSION = 1, HEADER_WORDS = 9, CHECKSUM_WORDS = 1 };

static const unsigned char magic[WORD] = {'V', 'I', 'S', 'A', 'T', 'B', 'M', 'S'};

static size_t state_size(const visatb_method *method) {
    return WORD * (HEADER_WORDS + method->losses_count + method->counts_count + CHECKSUM_WORDS);
}

static void put(unsigned char *at, uint64_t word) {
    for (size_t k = 0; k < WORD; k++)
        at[k] = (unsigned char)(word >> (8 * k));
}

static uint64_t get(const unsigned char *at) {
    uint64_t word = 0;
    for (size_t k = 0; k < WORD; k++)
        word |= (uint64_t)at[k] << (8 * k);
    return word;
}

static uint64_t word_of(double number) {
    uint64_t word = 0;
    memcpy(&word, &number, sizeof word);
    return word;
}

static double number_of(uint64_t word) {
    double number = 0.0;
    memcpy(&number, &word, sizeof number);
    return number;
}

/* FNV-1a, 64 bits: one changed byte always changes it. */
static uint64_t checksum(const unsigned char *bytes, size_t size) {
    uint64_t sum = 0xcbf29ce484222325U;
    for (size_t k = 0; k < size; k++)
        sum = (sum ^ bytes[k]) * 0x100000001b3U;
    return sum;
}

/* What stands before the losses. */
static void put_header(const visatb_method *method, unsigned char header[WORD * HEADER_WORDS]) {
    const visatb_method_options *const options = &method->options;
    memcpy(header, magic, sizeof magic);
    const uint64_t words[HEADER_WORDS] = {0, /* the magic's */
                                          VERSION | (uint64_t)options->kind << 32,
                                          options->tasks,
                                          options->seed,
                                          (uint64_t)options->window,
                                          word_of(options->temperature),
                                          (uint64_t)options->base_first,
                                          (uint64_t)options->base_end,
                                          method->steps};
    for (size_t k = 1; k < HEADER_WORDS; k++)
        put(header + WORD * k, words[k]);
}

static visatb_status check_arguments(const char *function, const visatb_method *method, const void *state) {
    const visatb_status status = method_check(function, method);
    if (status == VISATB_OK && !state)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: state is NULL; expected %zu bytes", function,
                         state_size(method));
    return status;
}

visatb_status visatb_method_state_size(const visatb_method *method, size_t *size) {
    static const char function[] = "visatb_method_state_size";
    const visatb_status status = method_check(function, method);
    if (status != VISATB_OK)
        return status;
    if (!size)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: size is NULL; expected a place for the result",
                         function);
    *size = state_size(method);
    return VISATB_OK;
}

visatb_status visatb_method_save(const visatb_method *method, void *state, size_t size) {
    static const char function[] = "visatb_method_save";
    const visatb_status status = check_arguments(function, method, state);
    if (status != VISATB_OK)
        return status;
    if (size != state_size(method))
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: size = %zu; expected %zu, as visatb_method_state_size says", function, size,
                         state_size(method));
    unsigned char *at = state;
    put_header(method, at);
    at += WORD * HEADER_WORDS;
    for (size_t k = 0; k < method->losses_count; k++, at += WORD)
        put(at, word_of(method->losses[k]));
    for (size_t k = 0; k < method->counts_count; k++, at += WORD)
        put(at, method->counts[k]);
    put(at, checksum(state, size - WORD));
    return VISATB_OK;
}

/* Whether it is a state at all, and whole. */
static visatb_status check_whole(const char *function, const unsigned char *state, size_t size) {
    const size_t least = WORD * (HEADER_WORDS + CHECKSUM_WORDS);
    if (size < least)
        return error_set(VISATB_ERROR_DATA, "%s: the state has %zu bytes; expected %zu or more: it is cut",
                         function, size, least);
    if (memcmp(state, magic, sizeof magic) != 0)
        return error_set(VISATB_ERROR_DATA,
                         "%s: the state does not begin with VISATBMS; expected one of visatb_method_save",
                         function);
    const uint32_t version = (uint32_t)get(state + WORD);
    if (version != VERSION)
        return error_set(VISATB_ERROR_DATA, "%s: the state is of version %u of its format; expected %d",
                         function, (unsigned)version, VERSION);
    if (get(state + size - WORD) != checksum(state, size - WORD))
        return error_set(VISATB_ERROR_DATA,
                         "%s: the state's checksum is wrong; expected that of what stands before: it is cut "
                         "or damaged",
                         function);
    return VISATB_OK;
}

/* Whether a method like this one made it. */
static visatb_status check_made_alike(const char *function, const visatb_method *method,
                                      const unsigned char *state, size_t size) {
    static const char *const names[HEADER_WORDS] = {"magic",       "kind",       "tasks",    "seed", "window",
                                                    "temperature", "base_first", "base_end", "steps"};
    enum { KIND = 1, TASKS = 2, TEMPERATURE = 5, STEPS = 8 };
    unsigned char expected[WORD * HEADER_WORDS];
    put_header(method, expected);
    for (size_t k = KIND; k < STEPS; k++) {
        uint64_t found = get(state + WORD * k), wanted = get(expected + WORD * k);
        if (found == wanted)
            continue;
        if (k == TEMPERATURE)
            return error_set(VISATB_ERROR_DATA,
                             "%s: the state is of a method with temperature = %.17g; expected %.17g",
                             function, number_of(found), number_of(wanted));
        if (k == KIND) {
            found >>= 32;
            wanted >>= 32;
        }
        return error_set(VISATB_ERROR_DATA, "%s: the state is of a method with %s = %llu; expected %llu",
                         function, names[k], (unsigned long long)found, (unsigned long long)wanted);
    }
    if (size != state_size(method))
        return error_set(VISATB_ERROR_DATA, "%s: the state has %zu bytes; expected %zu", function, size,
                         state_size(method));
    return VISATB_OK;
}

static visatb_status check_losses(const char *function, const visatb_method *method,
                                  const unsigned char *losses) {
    for (size_t k = 0; k < method->losses_count; k++) {
        const double loss = number_of(get(losses + WORD * k));
        if (loss != METHOD_ABSENT && (!isfinite(loss) || loss < 0.0))
            return error_set(VISATB_ERROR_DATA,
                             "%s: loss %zu of the state is %g; expected a finite number of 0 or more, or -1",
                             function, k, loss);
    }
    return VISATB_OK;
}

/* Whether the losses of DWA are of steps that were: until all rows are full, row s is of step s. */
static visatb_status check_rows(const char *function, const visatb_method *method, uint64_t steps,
                                const unsigned char *losses) {
    const size_t tasks = method->options.tasks;
    for (size_t k = 0; k < method->losses_count; k++) {
        const double loss = number_of(get(losses + WORD * k));
        if (loss != METHOD_ABSENT && k / tasks >= steps)
            return error_set(VISATB_ERROR_DATA,
                             "%s: loss %zu of the state is %g after %" PRIu64 " steps; expected -1", function,
                             k, loss, steps);
    }
    return VISATB_OK;
}

/* How many of the first `steps` steps are in the base. */
static uint64_t base_steps(const visatb_method_options *options, uint64_t steps) {
    const uint64_t first = (uint64_t)options->base_first, end = (uint64_t)options->base_end;
    return steps <= first ? 0 : (steps < end ? steps : end) - first;
}

/* Whether the counts fit the steps and the losses; the losses are [last, base], as IGBv1's. */
static visatb_status check_counts(const char *function, const visatb_method *method, uint64_t steps,
                                  const unsigned char *losses) {
    const size_t tasks = method->counts_count;
    const uint64_t most = base_steps(&method->options, steps);
    for (size_t task = 0; task < tasks; task++) {
        const double last = number_of(get(losses + WORD * task));
        const double base = number_of(get(losses + WORD * (tasks + task)));
        const uint64_t count = get(losses + WORD * (2 * tasks + task));
        if (count > most)
            return error_set(VISATB_ERROR_DATA,
                             "%s: count %zu of the state is %" PRIu64 "; expected at most %" PRIu64
                             " after %" PRIu64 " steps",
                             function, task, count, most, steps);
        if ((count == 0) != (base == METHOD_ABSENT))
            return error_set(VISATB_ERROR_DATA,
                             "%s: base %zu of the state is %g with count %" PRIu64 "; expected %s", function,
                             task, base, count, count == 0 ? "-1" : "a loss");
        if (count > 0 && last == METHOD_ABSENT)
            return error_set(VISATB_ERROR_DATA,
                             "%s: last loss %zu of the state is -1 with count %" PRIu64 "; expected a loss",
                             function, task, count);
        /* It would be of a step outside of the base. */
        if (count == 0 && last != METHOD_ABSENT && steps == most)
            return error_set(VISATB_ERROR_DATA,
                             "%s: last loss %zu of the state is %g with count 0 after %" PRIu64
                             " steps; expected -1",
                             function, task, last, steps);
    }
    return VISATB_OK;
}

/* Whether a method that was told of so many steps can have such losses and counts. */
static visatb_status check_content(const char *function, const visatb_method *method,
                                   const unsigned char *state) {
    const unsigned char *const losses = state + WORD * HEADER_WORDS;
    const uint64_t steps = get(losses - WORD);
    visatb_status status = check_losses(function, method, losses);
    if (status == VISATB_OK && method->options.kind == VISATB_METHOD_DWA)
        status = check_rows(function, method, steps, losses);
    return status == VISATB_OK ? check_counts(function, method, steps, losses) : status;
}

visatb_status visatb_method_restore(visatb_method *method, const void *state, size_t size) {
    static const char function[] = "visatb_method_restore";
    visatb_status status = check_arguments(function, method, state);
    if (status == VISATB_OK)
        status = check_whole(function, state, size);
    if (status == VISATB_OK)
        status = check_made_alike(function, method, state, size);
    if (status == VISATB_OK)
        status = check_content(function, method, state);
    if (status != VISATB_OK)
        return status;
    const unsigned char *at = (const unsigned char *)state + WORD * (HEADER_WORDS - 1);
    method->steps = get(at);
    at += WORD;
    for (size_t k = 0; k < method->losses_count; k++, at += WORD)
        method->losses[k] = number_of(get(at));
    for (size_t k = 0; k < method->counts_count; k++, at += WORD)
        method->counts[k] = get(at);
    return VISATB_OK;
}
