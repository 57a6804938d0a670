/* The loss of a vocabulary in slices for tests that were written for whole rows. Programs that are compiled
 * with visatb_vitw_loss=in_slices_vitw_loss make every one of their calls so, and what they promise of whole
 * rows they then promise of slices. */
#ifndef VISATB_TESTS_IN_SLICES_H
#define VISATB_TESTS_IN_SLICES_H

#include "visatb.h"

/* The first word of slice `slice`, and `vocab` for the one behind the last: unequal widths, the first of them
 * small. */
int64_t in_slices_first(int64_t vocab, int64_t slices, int64_t slice);

/* In as many slices as the environment's VISATB_TEST_SLICES says, or as there are words. Every slice must
 * find the same bits, and write nothing beside its gradient. */
visatb_status in_slices_vitw_loss(const visatb_vitw_loss_args *args);

#endif
