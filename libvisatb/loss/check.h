/* The door of the loss: whatever is wrong with a call is found and said here, before anything is written.
 * What lies in the memory of a GPU is not looked at. */
#ifndef VISATB_LOSS_CHECK_H
#define VISATB_LOSS_CHECK_H

#include "loss/backend.h"

/* Copies the caller's arguments, of this or another version, into *checked, resolves strides of 0 and finds
 * the backend, which for a GPU there is none. On failure neither is of use and visatb_last_error() says why.
 */
visatb_status loss_check(const visatb_vitw_loss_args *args, visatb_vitw_loss_args *checked,
                         const loss_backend **backend);

/* The same, but for what a plan does not depend on. `caller` begins the messages. */
visatb_status loss_check_plan(const char *caller, const visatb_vitw_loss_args *args,
                              visatb_vitw_loss_args *checked, const loss_backend **backend);

/* What is said of any form of the loss; `function` begins the message. -------------------------------- */

/* Copies the `size` bytes that a caller of this or another version gave into the struct that we know. */
visatb_status loss_copy_args(const char *function, const char *initialiser, const void *args, void *known,
                             size_t known_size);

/* A count times the bytes of its elements must fit into memory, or a position in it could not be computed. */
visatb_status loss_check_count(const char *function, const char *name, int64_t count, int64_t smallest);

/* [rows, width] of elements of so many bytes, `stride` elements from row to row. `columns` names the width.
 */
typedef struct loss_matrix {
    const char *name;
    const char *columns;
    const void *start;
    int64_t rows;
    int64_t width;
    int64_t stride;
    size_t element_size;
} loss_matrix;

visatb_status loss_check_matrix(const char *function, const loss_matrix *matrix);

visatb_status loss_check_device(const char *function, visatb_device device);

/* Shape, types and options. */
visatb_status loss_check_numbers(const char *function, const visatb_vitw_loss_args *args);

/* The arrays of rows that no call can do without, and all the pointers that a loss cannot. */
visatb_status loss_check_row_pointers(const char *function, const visatb_vitw_loss_args *args);
visatb_status loss_check_pointers(const char *function, const visatb_vitw_loss_args *args);

/* What the host can read of these; each may be NULL. */
visatb_status loss_check_scalars(const char *function, visatb_reduction reduction, const double *denominator,
                                 const float *grad_scale);

/* What stands in the arrays; each relies on those before it. */
visatb_status loss_check_task_weights(const char *function, const visatb_vitw_loss_args *args);
visatb_status loss_check_rows(const char *function, const visatb_vitw_loss_args *args);

/* Everything but logits and gradient: first the choices, which say how large the arrays are, then what stands
 * in the arrays. */
visatb_status loss_check_choices(const char *function, const visatb_vitw_loss_args *args,
                                 const loss_backend **backend);
visatb_status loss_check_contents(const char *function, const visatb_vitw_loss_args *args);

#endif
