/* Calls of visatb_vitw_linear_loss beside its formula. */
#ifndef EVERY_KERNEL_LINEAR_H
#define EVERY_KERNEL_LINEAR_H

#include "visatb.h"

void linear_try_all(visatb_dtype dtype);

#endif
