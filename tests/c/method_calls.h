/* Methods and their states, as tests have them. */
#ifndef VISATB_TESTS_METHOD_CALLS_H
#define VISATB_TESTS_METHOD_CALLS_H

#include <stddef.h>

#include "visatb.h"

enum { MOST_TASKS = 8, MOST_BYTES = 1024 };

/* One with windows that are soon full: of DWA 2 steps each, of IGBv1 the steps 1 and 2. */
visatb_method *make(visatb_method_kind kind, size_t tasks);

/* Losses and tokens that differ by step and task; some tasks are not there. */
void tell(visatb_method *method, size_t tasks, unsigned step);

/* Saves into `state`; returns how many bytes. */
size_t state_of(const visatb_method *method, unsigned char state[MOST_BYTES]);

/* Makes the checksum that of the bytes before it. */
void put_checksum(unsigned char *bytes, size_t size);

#endif
