/* What a test sets of the pretended GPU on which kernels run as fibres, and what it is told. */
#ifndef VISATB_TESTS_FIBRES_CONTROL_H
#define VISATB_TESTS_FIBRES_CONTROL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which thread goes on where several could. The first two take a warp, and then a block, as far as it can go
 * before any other; the shuffled order does so too where the seed is odd, and else leaves them at any time.
 */
enum fibres_order { FIBRES_FORWARD, FIBRES_BACKWARD, FIBRES_SHUFFLED };

void fibres_set_order(int order, unsigned seed);

/* The devices 0 and 1, alike, of which 0 is current at first. A capability of 0: there is no GPU. Before:
 * 90, 232448, 233472. */
void fibres_set_device(int capability, size_t shared_of_block, size_t shared_of_multiprocessor);

/* The compute capability that the kernels are said to have been compiled for. Before: 90. */
void fibres_set_build(int capability);

/* All memory is device 0's but for what is said to be other. At most 64 ranges. */
void fibres_host_memory(const void *start, size_t bytes);
void fibres_pinned_memory(const void *start, size_t bytes);
void fibres_memory_of_device(const void *start, size_t bytes, int ordinal);
void fibres_forget_memory(void);

/* What was put into streams since the program began, kernels and runtime_clear; failed ones count. */
size_t fibres_launches(void);

/* The n-th of these from now (1: the next) is not run, and its error is 999. 0: none. */
void fibres_fail_launch(size_t n);

/* --- for the harness itself ------------------------------------------------------------------------------
 */

struct fibres_settings {
    int order;
    unsigned seed;
    int capability;
    int built_for;
    size_t shared_of_block;
    size_t shared_of_multiprocessor;
};

const struct fibres_settings *fibres_current_settings(void);

/* Counts what is put into a stream; 999 if it is to fail. */
int fibres_count_launch(void);

#ifdef __cplusplus
}
#endif

#endif
