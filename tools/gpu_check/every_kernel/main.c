/* Goes through every kernel on small sizes and compares with the formulas. For compute-sanitizer, and by
 * itself.
 *
 *   every_kernel [--small] [--raw]
 *
 * --small: fewer rows, for tools that take a hundred times as long. --raw: new memory is left as it is, for a
 * tool that looks for what is read before it was written. The last line is "every_kernel: ok, ..." or
 * "every_kernel: wrong, ...". */
#include "linear.h"
#include "loss.h"
#include "memory.h"
#include "problem.h"

#include <stdio.h>
#include <string.h>

enum { WIDEST = 1200000, CLUSTERS = 4, MOST_WIDTHS = 8, WIDE = 50000 };

static const visatb_dtype dtypes[] = {VISATB_DTYPE_FLOAT32, VISATB_DTYPE_BFLOAT16, VISATB_DTYPE_FLOAT16};
static const visatb_cuda_path paths[] = {VISATB_CUDA_ONE_READ, VISATB_CUDA_TWO_READ};
static const char *const path_names[] = {"auto", "one_read", "two_read"};
static int64_t most_rows = 37;

enum { DTYPES = sizeof dtypes / sizeof *dtypes, PATHS = sizeof paths / sizeof *paths };

/* Says which kernel such a case takes, once each. */
static void tell(const loss_case *wanted) {
    static visatb_loss_plan told[64];
    static int count;
    visatb_loss_plan plan;
    if (memory_device == VISATB_DEVICE_CPU || !loss_plan(wanted, &plan))
        return;
    for (int i = 0; i < count; ++i)
        if (told[i].cuda_path == plan.cuda_path && told[i].cluster == plan.cluster &&
            told[i].threads == plan.threads)
            return;
    if (count < (int)(sizeof told / sizeof *told))
        told[count++] = plan;
    (void)printf("taken: %s, cluster of %d, %d threads, as at a width of %lld\n", path_names[plan.cuda_path],
                 (int)plan.cluster, (int)plan.threads, (long long)wanted->vocab);
}

static void try_one(loss_case wanted, const char *what) {
    char name[160];
    (void)snprintf(name, sizeof name, "%s: dtype %d, %s, [%lld, %lld]%s%s", what, (int)wanted.dtype,
                   path_names[wanted.path], (long long)wanted.rows, (long long)wanted.vocab,
                   wanted.offset != 0 ? ", unaligned" : "", wanted.in_place ? ", in place" : "");
    wanted.name = name;
    tell(&wanted);
    loss_try(&wanted);
}

/* The narrowest rows for every size of a cluster. */
static int find_widths(loss_case base, int64_t *widths) {
    int found = 0, last = 0;
    for (int64_t vocab = 1024; vocab < WIDEST && found < MOST_WIDTHS; vocab += vocab / 16 / 8 * 8 + 8) {
        visatb_loss_plan plan;
        base.vocab = vocab;
        if (!loss_plan(&base, &plan))
            break;
        if (plan.cluster != last)
            widths[found++] = vocab;
        last = plan.cluster;
    }
    return found;
}

static void try_widths(visatb_dtype dtype, visatb_cuda_path path) {
    static const int64_t usual[] = {1, 3, 31, 1000, 4099, 32000, 32003};
    enum { USUAL = sizeof usual / sizeof *usual };
    loss_case base = {.dtype = dtype, .path = path, .rows = 3, .vocab = 1024};
    int64_t widths[USUAL + 2 * MOST_WIDTHS];
    memcpy(widths, usual, sizeof usual);
    int count = USUAL;
    if (memory_device == VISATB_DEVICE_CUDA) {
        int64_t more[MOST_WIDTHS];
        const int found = find_widths(base, more);
        for (int i = 0; i < found; ++i) {
            widths[count++] = more[i];
            widths[count++] = more[i] + 3;
        }
    }
    for (int i = 0; i < count; ++i) {
        base.vocab = widths[i];
        base.rows = widths[i] > WIDE ? 3 : most_rows;
        base.in_place = i % 2 == 0;
        base.offset = 0;
        base.padding = 0;
        try_one(base, "width");
        base.in_place = !base.in_place;
        base.offset = 1;
        base.padding = 5;
        if (widths[i] <= WIDE)
            try_one(base, "width");
    }
}

static void try_options(visatb_dtype dtype, visatb_cuda_path path) {
    const loss_case base = {.dtype = dtype, .path = path, .rows = most_rows, .vocab = 1003};
    loss_case one = base;
    one.label_smoothing = 0.1;
    try_one(one, "label smoothing");
    one.softcap = 3;
    one.z_loss = 1e-3;
    one.in_place = true;
    try_one(one, "label smoothing, softcap and z-loss");
    one = base;
    one.softcap = 2;
    one.gives_denominator = true;
    one.grad_scale = 4;
    try_one(one, "softcap, a denominator and a grad_scale");
    one = base;
    one.is_sum = true;
    one.grad_scale = 0.25F;
    try_one(one, "sum");
    one = base;
    one.has_no_gradient = true;
    try_one(one, "no gradient");
    one = base;
    one.rows = 0;
    try_one(one, "no rows");
}

static void try_faults(visatb_dtype dtype, visatb_cuda_path path) {
    static const char *const names[] = {"", "bad label", "bad task id", "bad weight", "bad logits", "bad D"};
    /* The CPU refuses the others. */
    const bool all = memory_device == VISATB_DEVICE_CUDA;
    for (int kind = all ? BAD_LABEL : BAD_LOGITS; kind <= (all ? BAD_DENOMINATOR : BAD_LOGITS); ++kind) {
        const loss_case one = {.dtype = dtype,
                               .path = path,
                               .rows = 9,
                               .vocab = 515,
                               .in_place = kind % 2 == 0,
                               .gives_denominator = kind == BAD_DENOMINATOR,
                               .fault = (fault)kind};
        try_one(one, names[kind]);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--small") == 0)
            most_rows = 6;
        if (strcmp(argv[i], "--raw") == 0)
            memory_is_poisoned = false;
    }
    for (int dtype = 0; dtype < DTYPES; ++dtype) {
        for (int path = 0; path < PATHS; ++path) {
            try_widths(dtypes[dtype], paths[path]);
            try_options(dtypes[dtype], paths[path]);
            try_faults(dtypes[dtype], paths[path]);
        }
        if (memory_device == VISATB_DEVICE_CUDA) {
            loss_try_scaling(dtypes[dtype], 1);
            loss_try_scaling(dtypes[dtype], 100003);
        }
        linear_try_all(dtypes[dtype]);
    }
    loss_try_count(0);
    loss_try_count(most_rows);
    loss_try_count(5003);
    const tally found = problem_tally();
    (void)printf("every_kernel: %s, %d checks, %d wrong\n", found.wrong == 0 ? "ok" : "wrong", found.checks,
                 found.wrong);
    return found.wrong == 0 ? 0 : 1;
}
