#include "blas/blas.h"
#include "cpu/dispatch.h"
#include "cuda/cuda.h"
#include "visatb.h"

#include <pthread.h>
#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

#define VERSION TEXT(VISATB_VERSION_MAJOR) "." TEXT(VISATB_VERSION_MINOR) "." TEXT(VISATB_VERSION_PATCH)

const char *visatb_version(void) {
    return VERSION;
}

static char info[2048]; /* also with a long reason why a BLAS is refused */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void write_info(void) {
    (void)snprintf(info, sizeof info,
                   "version: " VERSION "\n"
                   "compiler: " __VERSION__ "\n"
                   "json: " VISATB_BUILD_JSON "\n"
                   "cpu loss: %s\n"
                   "blas: %s\n"
                   "cuda: %s\n"
                   "nccl: %s\n",
                   dispatch_description(), blas_description(), cuda_description(),
                   cuda_description_of_nccl());
}

const char *visatb_build_info(void) {
    (void)pthread_once(&once, write_info);
    return info;
}
