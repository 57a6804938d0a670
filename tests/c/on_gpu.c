#include "on_gpu.h"

#include "device_memory.h"
#include "loss_reference.h"

#include <stdlib.h>

/* An array of the call: where it is on the host, and its copy. The copy stands in a granule of 16 bytes as
 * the array does, for what a kernel does depends on that. */
typedef struct mirror {
    const void *host;
    void *out; /* the same, if the call writes to it */
    void *memory;
    unsigned char *device;
    size_t bytes;
} mirror;

enum { GRANULE = 16, MOST_MIRRORS = 20 };

typedef struct mirrors {
    mirror each[MOST_MIRRORS];
    int count;
} mirrors;

static mirror *mirror_of(mirrors *all, const void *host, size_t bytes) {
    for (int i = 0; i < all->count; ++i)
        if (all->each[i].host == host) /* in place */
            return &all->each[i];
    const size_t phase = (uintptr_t)host % GRANULE;
    mirror *m = &all->each[all->count++];
    m->host = host;
    m->out = NULL;
    m->bytes = bytes;
    m->memory = device_alloc(phase + bytes);
    m->device = (unsigned char *)m->memory + phase;
    device_copy_in(m->device, host, bytes);
    return m;
}

static const void *read_only(mirrors *all, const void *host, size_t bytes) {
    return host == NULL ? NULL : mirror_of(all, host, bytes)->device;
}

static void *written(mirrors *all, void *host, size_t bytes) {
    if (host == NULL)
        return NULL;
    mirror *m = mirror_of(all, host, bytes);
    m->out = host;
    return m->device;
}

static void bring_back(mirrors *all) {
    for (int i = 0; i < all->count; ++i) {
        mirror *m = &all->each[i];
        if (m->out != NULL)
            device_copy_out(m->out, m->device, m->bytes);
        device_free(m->memory);
    }
}

static size_t matrix_bytes(const visatb_vitw_loss_args *args, int64_t stride) {
    const int64_t step = stride > 0 ? stride : args->vocab;
    return args->rows == 0 ? 0
                           : (size_t)((args->rows - 1) * step + args->vocab) * reference_size(args->dtype);
}

/* denominator and grad_scale stay the host's: test_cuda_loss.c has them on the device. */
static void copy_in(const visatb_vitw_loss_args *args, visatb_vitw_loss_args *there, mirrors *all) {
    const size_t rows = (size_t)args->rows;
    const size_t tasks = (size_t)args->tasks;
    there->logits = read_only(all, args->logits, matrix_bytes(args, args->logits_stride));
    there->gradient = written(all, args->gradient, matrix_bytes(args, args->gradient_stride));
    there->labels = read_only(all, args->labels, rows * sizeof *args->labels);
    there->task_ids = read_only(all, args->task_ids, rows * sizeof *args->task_ids);
    there->task_weights = read_only(all, args->task_weights, tasks * sizeof *args->task_weights);
    there->loss = written(all, args->loss, sizeof *args->loss);
    there->numerator = written(all, args->numerator, sizeof *args->numerator);
    there->denominator_out = written(all, args->denominator_out, sizeof *args->denominator_out);
    there->row_nll = written(all, args->row_nll, rows * sizeof *args->row_nll);
    there->row_lse = written(all, args->row_lse, rows * sizeof *args->row_lse);
    there->task_nll = written(all, args->task_nll, tasks * sizeof *args->task_nll);
    there->task_tokens = written(all, args->task_tokens, tasks * sizeof *args->task_tokens);
    there->report = written(all, args->report, sizeof *args->report);
}

visatb_status on_gpu_run(const visatb_vitw_loss_args *args) {
    visatb_vitw_loss_args there = *args;
    visatb_loss_plan plan = VISATB_LOSS_PLAN_INIT;
    mirrors all = {.count = 0};
    there.size = sizeof there; /* of a later version no more than we know was copied */
    there.device = VISATB_DEVICE_CUDA;
    visatb_status status = visatb_vitw_loss_plan(&there, &plan);
    if (status != VISATB_OK)
        return status;
    copy_in(args, &there, &all);
    /* Of an odd address, and not a byte more. */
    unsigned char *workspace = device_alloc(plan.workspace_bytes + 1);
    there.workspace = workspace + 1;
    there.workspace_bytes = plan.workspace_bytes;
    status = visatb_vitw_loss(&there);
    bring_back(&all);
    device_free(workspace);
    return status;
}
