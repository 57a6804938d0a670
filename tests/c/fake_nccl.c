/* A library with the interface of NCCL, for tests without a GPU: ranks are threads, and a sum over them is
 * formed on memory of the host, when all of them have called for it, in the order of the ranks. It refuses
 * what the real one refuses, and ranks whose calls differ, which the real one would hang or add up wrongly
 * for. FAKE_NCCL_VERSION in the environment ("2804") replaces its version.
 */
#include "fake_nccl.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum {
    SUCCESS = 0,
    UNHANDLED_CUDA_ERROR = 1,
    INVALID_ARGUMENT = 4,
    INVALID_USAGE = 5,
    IN_PROGRESS = 7,
};

enum { INT64 = 4, FLOAT64 = 8, SUM = 0, MOST_RANKS = 8, MAGIC = 0x4ccb, PATIENCE = 20 };

#ifndef FAKE_VERSION
#define FAKE_VERSION 29807
#endif

/* What a rank asks for. */
typedef struct request {
    void *values;
    size_t count;
    int type;
} request;

typedef struct group {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int ranks;
    int arrived;
    unsigned sums; /* that were formed */
    int status;    /* of the last */
    request requests[MOST_RANKS];
} group;

typedef struct communicator {
    int magic;
    group *all;
    int rank;
    int device;
    int calls;
    int call_to_fail;
    int times;     /* that the status is asked for before a sum is formed */
    int times_now; /* that are left; with 0 nothing is in progress */
    void *stream;
} communicator;

/* --- sums ---------------------------------------------------------------------------------------------- */

static bool are_alike(const group *all) {
    for (int rank = 1; rank < all->ranks; ++rank)
        if (all->requests[rank].count != all->requests[0].count ||
            all->requests[rank].type != all->requests[0].type)
            return false;
    return true;
}

static void add_up_doubles(const group *all, size_t at) {
    double sum = 0;
    for (int rank = 0; rank < all->ranks; ++rank)
        sum += ((const double *)all->requests[rank].values)[at];
    for (int rank = 0; rank < all->ranks; ++rank)
        ((double *)all->requests[rank].values)[at] = sum;
}

static void add_up_integers(const group *all, size_t at) {
    int64_t sum = 0;
    for (int rank = 0; rank < all->ranks; ++rank)
        sum += ((const int64_t *)all->requests[rank].values)[at];
    for (int rank = 0; rank < all->ranks; ++rank)
        ((int64_t *)all->requests[rank].values)[at] = sum;
}

/* The last rank to come adds up for all. */
static int meet(communicator *comm) {
    group *all = comm->all;
    (void)pthread_mutex_lock(&all->mutex);
    const unsigned sums = all->sums;
    all->arrived += 1;
    if (all->arrived == all->ranks) {
        all->status = are_alike(all) ? SUCCESS : INVALID_USAGE;
        for (size_t at = 0; all->status == SUCCESS && at < all->requests[0].count; ++at) {
            if (all->requests[0].type == FLOAT64)
                add_up_doubles(all, at);
            else
                add_up_integers(all, at);
        }
        all->arrived = 0;
        all->sums += 1;
        (void)pthread_cond_broadcast(&all->changed);
    }
    struct timespec end;
    (void)clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE;
    while (all->sums == sums)
        if (pthread_cond_timedwait(&all->changed, &all->mutex, &end) != 0)
            abort(); /* a rank that does not come: the real one would wait for ever */
    const int status = all->status;
    (void)pthread_mutex_unlock(&all->mutex);
    return status;
}

static bool is_communicator(const communicator *comm) {
    return comm != NULL && comm->magic == MAGIC && comm->times_now == 0;
}

int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, void *of, void *stream);
int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, void *of, void *stream) {
    communicator *comm = of;
    if (!is_communicator(comm) || from != to || count == 0 || (type != INT64 && type != FLOAT64) ||
        operation != SUM)
        return INVALID_ARGUMENT;
    comm->calls += 1;
    if (comm->calls == comm->call_to_fail)
        return UNHANDLED_CUDA_ERROR;
    comm->stream = stream;
    comm->all->requests[comm->rank] = (request){to, count, type};
    comm->times_now = comm->times;
    return comm->times > 0 ? IN_PROGRESS : meet(comm);
}

int ncclCommGetAsyncError(void *of, int *status);
int ncclCommGetAsyncError(void *of, int *status) {
    communicator *comm = of;
    if (comm == NULL || comm->magic != MAGIC)
        return INVALID_ARGUMENT;
    *status = SUCCESS;
    if (comm->times_now > 0) {
        comm->times_now -= 1;
        *status = comm->times_now > 0 ? IN_PROGRESS : meet(comm);
    }
    return SUCCESS;
}

int ncclCommCuDevice(const void *of, int *device);
int ncclCommCuDevice(const void *of, int *device) {
    const communicator *comm = of;
    if (!is_communicator(comm))
        return INVALID_ARGUMENT;
    *device = comm->device;
    return SUCCESS;
}

int ncclGetVersion(int *version);
int ncclGetVersion(int *version) {
    const char *other = getenv("FAKE_NCCL_VERSION"); /* NOLINT(concurrency-mt-unsafe): nobody changes it */
    *version = other != NULL ? (int)strtol(other, NULL, 10) : FAKE_VERSION;
    return SUCCESS;
}

const char *ncclGetErrorString(int status);
const char *ncclGetErrorString(int status) {
    switch (status) {
    case UNHANDLED_CUDA_ERROR: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case INVALID_ARGUMENT: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case INVALID_USAGE: return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    default: return "unknown result code";
    }
}

/* --- for tests ----------------------------------------------------------------------------------------- */

void fake_nccl_create(int ranks, const int *devices, void **comms) {
    group *all = calloc(1, sizeof *all);
    if (all == NULL || ranks > MOST_RANKS)
        abort();
    (void)pthread_mutex_init(&all->mutex, NULL);
    (void)pthread_cond_init(&all->changed, NULL);
    all->ranks = ranks;
    for (int rank = 0; rank < ranks; ++rank) {
        communicator *comm = calloc(1, sizeof *comm);
        if (comm == NULL)
            abort();
        comm->magic = MAGIC;
        comm->all = all;
        comm->rank = rank;
        comm->device = devices != NULL ? devices[rank] : 0;
        comms[rank] = comm;
    }
}

void fake_nccl_destroy(int ranks, void **comms) {
    group *all = ((communicator *)comms[0])->all;
    for (int rank = 0; rank < ranks; ++rank)
        free(comms[rank]);
    (void)pthread_cond_destroy(&all->changed);
    (void)pthread_mutex_destroy(&all->mutex);
    free(all);
}

void fake_nccl_fail(void *comm, int n) {
    communicator *of = comm;
    of->call_to_fail = n > 0 ? of->calls + n : 0;
}

void fake_nccl_take_time(void *comm, int times) {
    ((communicator *)comm)->times = times;
}

void *fake_nccl_stream(void *comm) {
    return ((communicator *)comm)->stream;
}
