/* The door of the loss: whatever is wrong with a call is found and said here, before anything is written. */
#ifndef VISATB_LOSS_CHECK_H
#define VISATB_LOSS_CHECK_H

#include "visatb.h"

/* Copies the caller's arguments, of this or another version, into *checked and resolves strides of 0. On
 * failure *checked is of no use and visatb_last_error() says why. */
visatb_status loss_check(const visatb_vitw_loss_args *args, visatb_vitw_loss_args *checked);

#endif
