/* What a test asks of fake_nccl.c beside what NCCL has; found by dlsym, and missing in a real one. */
#ifndef VISATB_TESTS_FAKE_NCCL_H
#define VISATB_TESTS_FAKE_NCCL_H

/* One communicator for each of so many ranks, all of one group, to be used by a thread each; rank r's is of
 * device devices[r] (NULL: 0). Freed together. */
void fake_nccl_create(int ranks, const int *devices, void **comms);
void fake_nccl_destroy(int ranks, void **comms);

/* The n-th sum of this rank from now (1: the next) is not formed, and its status is 1. 0: none. */
void fake_nccl_fail(void *comm, int n);

/* From now on the rank's sums are in progress when the call returns, and are formed when their status was
 * asked for so many times; other calls before that are refused. 0: they block. */
void fake_nccl_take_time(void *comm, int times);

/* The stream that the rank's last sum was put into. */
void *fake_nccl_stream(void *comm);

#endif
