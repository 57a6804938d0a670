/* The rows of a call on the CPU: the memory that they take, and the threads that they are shared out to. */
#ifndef VISATB_LOSS_RUN_H
#define VISATB_LOSS_RUN_H

#include "loss/rows.h"

/* The whole call: its gradient, and all other outputs.
 * Errors: MEMORY, in the name of `function`. */
visatb_status loss_run(const char *function, const loss_plan *plan);

/* What the slice of the call tells of its rows, [rows]. Same errors. */
visatb_status loss_measure(const char *function, const loss_plan *plan, slice_statistics *statistics);

#endif
