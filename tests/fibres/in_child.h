/* For what may end the program: it is run in another. */
#ifndef VISATB_TESTS_FIBRES_IN_CHILD_H
#define VISATB_TESTS_FIBRES_IN_CHILD_H

#include <stddef.h>

/* 0 if function(argument) returned 0, else another number: -SIGABRT where it aborted. `text` is what it said
 * on standard error, cut to the size. */
int run_in_child(int (*function)(int), int argument, char *text, size_t size);

#endif
