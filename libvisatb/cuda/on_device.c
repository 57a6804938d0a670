#include "cuda/on_device.h"

visatb_status cuda_on_device(const char *function, int ordinal, cuda_work *work, void *context) {
    int before = ordinal;
    const visatb_status status = runtime_use_device(function, ordinal, &before);
    if (status != VISATB_OK)
        return status;
    const visatb_status done = work(context);
    if (before == ordinal)
        return done;
    int ours = ordinal;
    const visatb_status restored = runtime_use_device(function, before, &ours);
    return done == VISATB_OK ? restored : done;
}
