/* Work on a device that need not be the current one. */
#ifndef VISATB_CUDA_ON_DEVICE_H
#define VISATB_CUDA_ON_DEVICE_H

#include "cuda/runtime.h"

/* What is done while the device is the current one. */
typedef visatb_status cuda_work(void *context);

/* Does it, and makes current again what was. An error of the work goes before one of that. */
visatb_status cuda_on_device(const char *function, int ordinal, cuda_work *work, void *context);

#endif
