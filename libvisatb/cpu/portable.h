/* The backend that every machine has: plain C in double, the yardstick of all others. */
#ifndef VISATB_CPU_PORTABLE_H
#define VISATB_CPU_PORTABLE_H

#include "loss/backend.h"

extern const loss_backend portable_backend;

#endif
