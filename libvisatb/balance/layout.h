/* A visatb_layout, checked and turned into one entry per metric. */
#ifndef VISATB_BALANCE_LAYOUT_H
#define VISATB_BALANCE_LAYOUT_H

#include "balance/balance.h"
#include "visatb.h"

typedef struct resolved_layout {
    size_t units;
    size_t metrics;
    balance_metric *layout; /* [metrics], freed by layout_free */
} resolved_layout;

visatb_status layout_resolve(const char *function, const visatb_layout *layout, resolved_layout *resolved);
void layout_free(resolved_layout *resolved);

#endif
