/* Which of the CPU's backends a call takes. */
#ifndef VISATB_CPU_DISPATCH_H
#define VISATB_CPU_DISPATCH_H

#include "loss/backend.h"

/* The backend of a call of `function` (it begins the message of an error) on logits of this type. */
visatb_status dispatch_backend(const char *function, visatb_cpu_path wanted, visatb_dtype dtype,
                               const loss_backend **backend);

/* For visatb_build_info: such as "avx512 (of portable, avx2, avx512)". */
const char *dispatch_description(void);

/* The path of calls that name none, as the description has it: whether this CPU runs it is not asked. */
visatb_cpu_path dispatch_default(void);

#endif
