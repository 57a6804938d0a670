/* How large chunks are, and where everything stands in the workspace. Sizes are counted so that they stick at
 * SIZE_MAX where they would pass it. */
#include "cuda/linear.h"

#include "common/error.h"
#include "cpu/convert.h"
#include "linear/linear.h"

#include <inttypes.h>

static const size_t usual_chunk = (size_t)1 << 30;

enum {
    ALIGNMENT = 256,       /* what cuBLAS wants of its workspace, and what its fastest products are glad of */
    LOGITS_OF_STRIDE = 64, /* so that every row of logits begins on a cache line of any type */
    BYTES_OF_STRIDE = 16,
    MOST_ROWS = 1 << 27, /* a kernel that gives a row 8 blocks can be launched with few more */
    ROWS_OF_TILE = 128,  /* products work in tiles of so many rows, whole or not */
    ROWS_OF_GRANULE = 8  /* less than that, and columns of 2-byte elements are not aligned to 16 bytes */
};

static int64_t rounded_up(int64_t count, int64_t unit) {
    return (count - 1) / unit * unit + unit;
}

/* --- chunks ----------------------------------------------------------------------------------------------
 */

/* As few chunks as fit, of equal size. Whole tiles, where that does not pass what fits: it is never one chunk
 * more or less. */
static void divide_rows(int64_t fitting, cuda_linear_layout *layout) {
    static const int64_t units[] = {ROWS_OF_TILE, ROWS_OF_GRANULE};
    layout->chunks = (layout->room - 1) / fitting + 1;
    layout->chunk_rows = (layout->room - 1) / layout->chunks + 1;
    for (size_t i = 0; i < sizeof units / sizeof *units; ++i) {
        const int64_t whole = rounded_up(layout->chunk_rows, units[i]);
        if (whole <= fitting) {
            layout->chunk_rows = whole;
            return;
        }
    }
}

static visatb_status set_chunks(const char *function, const visatb_vitw_linear_loss_args *args,
                                cuda_linear_layout *layout) {
    const size_t element = convert_element_size(args->dtype);
    const size_t row = (size_t)layout->logits_stride * element;
    const size_t budget = args->chunk_bytes > 0 ? args->chunk_bytes : usual_chunk;
    const size_t fitting = budget / row;
    if (fitting < 1)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: chunk_bytes = %zu; expected at least %zu, which one row takes%s", function,
                         args->chunk_bytes, row, row <= usual_chunk ? ", or 0" : "");
    divide_rows(fitting < MOST_ROWS ? (int64_t)fitting : MOST_ROWS, layout);
    return VISATB_OK;
}

/* --- places ----------------------------------------------------------------------------------------------
 */

/* Moves *end on by so many aligned bytes, and returns where it was. */
static size_t take(size_t *end, size_t bytes) {
    const size_t start = *end;
    const size_t taken =
        bytes > SIZE_MAX - ALIGNMENT ? SIZE_MAX : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *end = plus(start, taken);
    return start;
}

static void place(const visatb_vitw_linear_loss_args *args, cuda_linear_layout *layout) {
    const size_t element = convert_element_size(args->dtype);
    const size_t rows = (size_t)layout->chunk_rows;
    const size_t vocab = (size_t)args->vocab;
    const size_t hidden_size = (size_t)args->hidden_size;
    size_t end = 0;
    layout->step = take(&end, sizeof(cuda_step));
    layout->outcomes = take(&end, times((size_t)args->rows, sizeof(cuda_outcome)));
    layout->index = take(&end, times(times((size_t)layout->chunks, rows), sizeof(int64_t)));
    layout->products = take(&end, layout->chunks > 0 ? CUDA_LINEAR_PRODUCTS_BYTES : 0);
    layout->hidden = take(&end, times(rows, (size_t)layout->hidden_stride * element));
    layout->logits = take(&end, times(rows, (size_t)layout->logits_stride * element));
    layout->ones = take(&end, times(rows, element));
    layout->weight_sum = take(&end, layout->sums ? times(times(vocab, hidden_size), sizeof(float)) : 0);
    layout->bias_sum = take(&end, layout->sums ? vocab * sizeof(float) : 0);
    layout->bytes = plus(end, ALIGNMENT - 1);
}

visatb_status cuda_linear_lay_out(const char *function, const visatb_vitw_linear_loss_args *args,
                                  visatb_dtype head, cuda_linear_layout *layout) {
    const int64_t granule = BYTES_OF_STRIDE / (int64_t)convert_element_size(args->dtype);
    *layout = (cuda_linear_layout){
        .room = most_valid_rows(args),
        .hidden_stride = rounded_up(args->hidden_size, granule),
        .logits_stride = rounded_up(args->vocab, LOGITS_OF_STRIDE),
    };
    if (layout->room > 0) {
        const visatb_status status = set_chunks(function, args, layout);
        if (status != VISATB_OK)
            return status;
    }
    layout->sums = head != VISATB_DTYPE_FLOAT32 && layout->chunks > 1;
    place(args, layout);
    if (layout->bytes > PTRDIFF_MAX)
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: rows = %" PRId64 "; expected less: the workspace passes any memory", function,
                         args->rows);
    return VISATB_OK;
}

unsigned char *cuda_linear_start(const visatb_vitw_linear_loss_args *args) {
    const uintptr_t misaligned = (uintptr_t)args->workspace % ALIGNMENT;
    return (unsigned char *)args->workspace + (misaligned == 0 ? 0 : ALIGNMENT - misaligned);
}
