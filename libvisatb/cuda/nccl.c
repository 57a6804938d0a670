#include "cuda/nccl.h"

#include "common/error.h"
#include "cuda/cuda.h"
#include "cuda/opened_library.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

/* --- what we need of it, as nccl.h of NCCL 2 has it ---------------------------------------------------- */

enum { STATUS_SUCCESS = 0, STATUS_IN_PROGRESS = 7 }; /* ncclResult_t */
enum { SUM = 0 };                                    /* ncclRedOp_t */

/* How NCCL_VERSION counts from 2.9 on, which is the first that can be captured into a CUDA graph. What is
 * older counts in hundreds, and is below it in any case. */
enum { OF_MAJOR = 10000, OF_MINOR = 100, OLDEST = 20900, OLD_OF_MAJOR = 1000 };

/* Set once, read ever after. */
static struct {
    int (*get_version)(int *version);
    const char *(*get_error_string)(int status);
    int (*get_device)(const void *comm, int *device);
    int (*get_async_error)(void *comm, int *status);
    int (*all_reduce)(const void *from, void *to, size_t count, int type, int operation, void *comm,
                      void *stream);
} functions;

static nccl result;
static char description[64];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* --- opening it ---------------------------------------------------------------------------------------- */

/* NULL, or what is wrong with its version. */
static const char *read_version(opened_library *library) {
    int version = 0;
    if (functions.get_version(&version) != STATUS_SUCCESS)
        return "it does not tell its version";
    const int of_major = version < OF_MAJOR ? OLD_OF_MAJOR : OF_MAJOR;
    (void)snprintf(description, sizeof description, "NCCL %d.%d.%d", version / of_major,
                   version % of_major / OF_MINOR, version % OF_MINOR);
    if (version >= OLDEST)
        return NULL;
    (void)snprintf(library->fault, sizeof library->fault, "it is %s, older than 2.9", description);
    return library->fault;
}

static const char *take(opened_library *library, void *handle) {
    const opened_function wanted[] = {
        {"ncclGetVersion", &functions.get_version},  {"ncclGetErrorString", &functions.get_error_string},
        {"ncclCommCuDevice", &functions.get_device}, {"ncclCommGetAsyncError", &functions.get_async_error},
        {"ncclAllReduce", &functions.all_reduce},
    };
    const char *fault = opened_library_functions(library, handle, wanted, sizeof wanted / sizeof *wanted);
    return fault == NULL ? read_version(library) : fault;
}

static void search(void) {
    static const char *const usual[] = {"libnccl.so.2", NULL};
    static opened_library library = {
        .name = "NCCL",
        .order = "VISATB_NCCL",
        .usual = usual,
        .take = take,
    };
    opened_library_find_maker(&library, "comm");
    result = (nccl){.found = library.found, .refusal = library.refusal};
}

const nccl *nccl_open(void) {
    (void)pthread_once(&once, search);
    return &result;
}

/* Not which one: to look would be to choose, perhaps before the caller has loaded his. */
const char *cuda_description_of_nccl(void) {
    return "looked for at first use";
}

/* --- calls --------------------------------------------------------------------------------------------- */

static visatb_status check(const char *function, const char *call, int status) {
    if (status == STATUS_SUCCESS)
        return VISATB_OK;
    return error_set(VISATB_ERROR_DEVICE, "%s: %s: %s failed: %s (%d)", function, description, call,
                     functions.get_error_string(status), status);
}

visatb_status nccl_device(const char *function, void *comm, int *ordinal) {
    return check(function, "ncclCommCuDevice", functions.get_device(comm, ordinal));
}

/* A communicator that does not block hands its calls to a thread of its own, and may be asked for nothing
 * else before that has put them into the stream. */
static int settled(void *comm, int status) {
    while (status == STATUS_IN_PROGRESS) {
        (void)sched_yield();
        const int asked = functions.get_async_error(comm, &status);
        if (asked != STATUS_SUCCESS)
            return asked;
    }
    return status;
}

visatb_status nccl_sum(const char *function, void *comm, void *values, int64_t count, nccl_type type,
                       void *stream) {
    const int status = functions.all_reduce(values, values, (size_t)count, (int)type, SUM, comm, stream);
    return check(function, "ncclAllReduce", settled(comm, status));
}
