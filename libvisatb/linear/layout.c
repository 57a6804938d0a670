/* How large chunks are, and where everything stands in the workspace. Sizes are counted so that they stick at
 * SIZE_MAX where they would pass it: such a call is refused for its chunk_bytes.
 *
 * The number of rows of a chunk decides in which order gradients of the head are added up, and so on their
 * bits; it must not depend on the number of threads. So rooms are set aside for as many workers as the budget
 * can afford, and those that this call does not need are not asked for. */
#include "linear/linear.h"

#include "common/error.h"
#include "common/parallel.h"
#include "linear/elements.h"

#include <inttypes.h>

static const size_t usual_budget = (size_t)256 << 20;

enum {
    LARGEST_EDGE = 512,
    MOST_WORKERS = 64, /* more would wait for each other in an OpenBLAS */
    GOOD_WORKERS = 8,  /* before there are fewer than so many, tiles are made smaller */
    SHARE_OF_ROOMS = 4 /* rooms take at most one part in so many of the budget */
};

/* To reach a cache line from wherever the workspace begins. */
static const size_t alignment_bytes = LOSS_CACHE_LINE - 1;

/* A thread that has less to do than this many multiplications is not worth its start. */
static const double work_per_thread = 4e6;

static size_t lines(size_t bytes) {
    return bytes > SIZE_MAX - LOSS_CACHE_LINE ? SIZE_MAX : loss_aligned_bytes(bytes);
}

/* Whole cache lines, and an odd number of them: columns are read too, and rows that are a power of two apart
 * would compete for the same places in the cache. */
static int64_t stride_of_logits(const linear_call *call) {
    const int64_t line = LOSS_CACHE_LINE / (int64_t)linear_wide_bytes(call);
    const int64_t whole = (call->args.vocab + line - 1) / line;
    return (whole | 1) * line;
}

/* A tile of the head as floats. */
static size_t tile_bytes(const linear_call *call, int64_t edge) {
    if (!elements_are_narrow(call->args.dtype))
        return 0;
    return (size_t)(smaller(edge, call->args.vocab) * smaller(edge, call->args.hidden_size)) * sizeof(float);
}

/* A thread computes rows or products, never both at once. Returns whether the room is that of the products,
 * which a smaller edge makes smaller. */
static bool set_room(const linear_call *call, int64_t edge, linear_layout *layout) {
    const visatb_vitw_loss_args *loss = &call->loss;
    const size_t rows = lines(call->backend->scratch_bytes(loss->dtype, loss->vocab, loss->softcap > 0));
    layout->edge = edge;
    layout->room_of_product = lines(tile_bytes(call, edge));
    const size_t products = layout->room_of_product + lines(call->blas.room_bytes(edge));
    layout->room_bytes = rows > products ? rows : products;
    return products > rows;
}

/* What is left besides the rooms and the chunk. */
static size_t bytes_of_all_rows(const linear_call *call) {
    const size_t rows = (size_t)call->args.rows;
    const size_t valid = (size_t)most_valid_rows(&call->args);
    return plus(plus(lines(times(rows, sizeof(loss_outcome))), lines(times(valid, sizeof(int64_t)))),
                alignment_bytes);
}

static size_t bytes_of_chunk_row(const linear_call *call, const linear_layout *layout) {
    return times((size_t)(layout->logits_stride + call->args.hidden_size), linear_wide_bytes(call));
}

/* How many rows fit beside so many rooms. */
static int64_t fitting_rows(const linear_call *call, const linear_layout *layout, size_t budget,
                            size_t workers) {
    const size_t taken = plus(bytes_of_all_rows(call), times(workers, layout->room_bytes));
    const size_t rows = taken > budget ? 0 : (budget - taken) / bytes_of_chunk_row(call, layout);
    return rows < BLAS_MOST ? (int64_t)rows : BLAS_MOST;
}

/* Sets edge and room, and the workers that they allow; returns the rows that fit. */
static int64_t divide_budget(const linear_call *call, size_t budget, linear_layout *layout) {
    for (int64_t edge = LARGEST_EDGE;; edge /= 2) {
        const bool can_shrink = set_room(call, edge, layout) && edge > BLAS_SMALLEST_EDGE;
        const size_t share = budget / SHARE_OF_ROOMS;
        const size_t affordable = layout->room_bytes == 0 ? MOST_WORKERS : share / layout->room_bytes;
        size_t workers = affordable < MOST_WORKERS ? affordable : MOST_WORKERS;
        int64_t rows = fitting_rows(call, layout, budget, workers);
        if (can_shrink && (workers < GOOD_WORKERS || rows < 1))
            continue;
        if (workers < 1 || rows < 1) {
            workers = 1;
            rows = fitting_rows(call, layout, budget, workers);
        }
        layout->workers = (int)workers;
        return rows;
    }
}

static int useful_workers(const linear_call *call, const linear_layout *layout) {
    const visatb_vitw_linear_loss_args *args = &call->args;
    const double work = (double)layout->chunk_rows * (double)args->vocab * (double)args->hidden_size;
    const double useful = 1 + work / work_per_thread;
    const int threads = parallel_threads(args->threads);
    const int most = threads < layout->workers ? threads : layout->workers;
    return useful < (double)most ? (int)useful : most;
}

static void place(const linear_call *call, linear_layout *layout) {
    const size_t wide = linear_wide_bytes(call);
    const size_t rows = (size_t)layout->chunk_rows;
    layout->outcomes = 0;
    layout->index = lines((size_t)call->args.rows * sizeof(loss_outcome));
    layout->rooms = layout->index + lines((size_t)most_valid_rows(&call->args) * sizeof(int64_t));
    layout->logits = layout->rooms + (size_t)layout->workers * layout->room_bytes;
    layout->hidden = layout->logits + rows * (size_t)layout->logits_stride * wide;
    layout->bytes = layout->hidden + rows * (size_t)call->args.hidden_size * wide + alignment_bytes;
}

visatb_status linear_lay_out(const char *function, const linear_call *call, linear_layout *layout) {
    *layout = (linear_layout){.logits_stride = stride_of_logits(call)};
    const int64_t valid = most_valid_rows(&call->args);
    if (valid == 0)
        return VISATB_OK;
    const size_t budget = call->args.chunk_bytes > 0 ? call->args.chunk_bytes : usual_budget;
    const int64_t rows = divide_budget(call, budget, layout);
    if (rows < 1) {
        const size_t needed =
            plus(plus(bytes_of_all_rows(call), layout->room_bytes), bytes_of_chunk_row(call, layout));
        return error_set(VISATB_ERROR_ARGUMENT,
                         "%s: chunk_bytes = %zu; expected at least %zu, which one row takes%s", function,
                         call->args.chunk_bytes, needed, needed <= usual_budget ? ", or 0" : "");
    }
    layout->chunks = (valid - 1) / rows + 1;
    layout->chunk_rows = (valid - 1) / layout->chunks + 1;
    layout->workers = useful_workers(call, layout);
    place(call, layout);
    return VISATB_OK;
}

void linear_fit(const linear_call *call, linear_layout *layout) {
    linear_layout smaller_one = *layout;
    while (smaller_one.bytes > call->args.workspace_bytes && smaller_one.workers > 1) {
        --smaller_one.workers;
        place(call, &smaller_one);
    }
    if (smaller_one.bytes <= call->args.workspace_bytes)
        *layout = smaller_one;
}
