/* The three products of a chunk, in tiles that do not depend on the number of threads. Each tile is one
 * product after the other on one thread, so its bits do not depend on that number either. */
#include "linear/linear.h"

#include "common/parallel.h"
#include "cpu/convert.h"
#include "linear/elements.h"

#include <string.h>

/* Element (row, column) of a wide matrix. */
static void *at(const linear_chunk *chunk, void *matrix, int64_t stride, int64_t row, int64_t column) {
    return (unsigned char *)matrix + (size_t)(row * stride + column) * linear_wide_bytes(chunk->call);
}

static unsigned char *room_of(const linear_chunk *chunk, int worker) {
    return chunk->rooms + (size_t)worker * chunk->layout->room_bytes;
}

/* A part of the head, as the product takes it: where it stands, or a copy of it. */
typedef struct head_part {
    const void *start;
    int64_t stride;
} head_part;

static head_part part_of_head(const linear_chunk *chunk, int worker, int64_t row, int64_t rows,
                              int64_t column, int64_t columns) {
    const visatb_vitw_linear_loss_args *args = &chunk->call->args;
    const size_t element = convert_element_size(args->dtype);
    const unsigned char *start =
        (const unsigned char *)args->weight + (size_t)(row * args->weight_stride + column) * element;
    if (!elements_are_narrow(args->dtype))
        return (head_part){start, args->weight_stride};
    float *const copy = (float *)(void *)room_of(chunk, worker);
    for (int64_t i = 0; i < rows; ++i)
        elements_widen(args->dtype, start + (size_t)(i * args->weight_stride) * element, columns,
                       copy + i * columns);
    return (head_part){copy, columns};
}

/* How much of the depth of a product with the head passes at a time: all, or what a copy has room for. */
static int64_t depth_at_a_time(const linear_chunk *chunk, int64_t depth) {
    return elements_are_narrow(chunk->call->args.dtype) ? smaller(chunk->layout->edge, depth) : depth;
}

static void multiply(const linear_chunk *chunk, int worker, blas_product *product) {
    product->edge = chunk->layout->edge;
    product->room = room_of(chunk, worker) + chunk->layout->room_of_product;
    chunk->call->blas.multiply(product);
}

/* --- logits ------------------------------------------------------------------------------------------- */

enum { BIAS_TILE = 256 };

static void add_bias(const linear_chunk *chunk, int64_t first, int64_t end) {
    const visatb_vitw_linear_loss_args *args = &chunk->call->args;
    double bias[BIAS_TILE];
    for (int64_t start = first; start < end; start += BIAS_TILE) {
        const int64_t count = smaller(BIAS_TILE, end - start);
        convert_read(args->dtype, args->bias, start, count, bias);
        for (int64_t row = 0; row < chunk->rows; ++row) {
            void *logits = at(chunk, chunk->logits, chunk->layout->logits_stride, row, start);
            if (args->dtype == VISATB_DTYPE_FLOAT64)
                for (int64_t i = 0; i < count; ++i)
                    ((double *)logits)[i] += bias[i];
            else
                for (int64_t i = 0; i < count; ++i)
                    ((float *)logits)[i] += (float)bias[i];
        }
    }
}

static void multiply_logits_of(void *context, int64_t first, int64_t end, int worker) {
    const linear_chunk *chunk = context;
    const visatb_vitw_linear_loss_args *args = &chunk->call->args;
    const int64_t step = depth_at_a_time(chunk, args->hidden_size);
    for (int64_t k = 0; k < args->hidden_size; k += step) {
        const int64_t depth = smaller(step, args->hidden_size - k);
        const head_part head = part_of_head(chunk, worker, first, end - first, k, depth);
        blas_product product = {
            .b_turned = true,
            .accumulate = k > 0,
            .rows = chunk->rows,
            .columns = end - first,
            .depth = depth,
            .a = at(chunk, chunk->hidden, args->hidden_size, 0, k),
            .a_stride = args->hidden_size,
            .b = head.start,
            .b_stride = head.stride,
            .c = at(chunk, chunk->logits, chunk->layout->logits_stride, 0, first),
            .c_stride = chunk->layout->logits_stride,
        };
        multiply(chunk, worker, &product);
    }
    if (args->bias != NULL)
        add_bias(chunk, first, end);
}

void linear_multiply_logits(linear_chunk *chunk) {
    parallel_for(chunk->layout->workers, chunk->call->args.team, chunk->call->args.vocab, chunk->layout->edge,
                 multiply_logits_of, chunk);
}

/* --- the gradient of the head --------------------------------------------------------------------------- */

/* The sum over the chunk is exact to the last bits; it is rounded where it is added to what is there. */
static void sum_bias_gradient(const linear_chunk *chunk, int64_t first, int64_t end) {
    void *gradient = chunk->call->args.bias_gradient;
    const visatb_dtype wide = chunk->call->loss.dtype;
    double sum[BIAS_TILE];
    double tile[BIAS_TILE];
    for (int64_t start = first; start < end; start += BIAS_TILE) {
        const int64_t count = smaller(BIAS_TILE, end - start);
        memset(sum, 0, sizeof sum);
        if (chunk->adds)
            convert_read(wide, gradient, start, count, sum);
        for (int64_t row = 0; row < chunk->rows; ++row) {
            convert_read(wide, at(chunk, chunk->logits, chunk->layout->logits_stride, row, 0), start, count,
                         tile);
            for (int64_t i = 0; i < count; ++i)
                sum[i] += tile[i];
        }
        convert_write(wide, sum, start, count, gradient);
    }
}

static void multiply_head_gradient_of(void *context, int64_t first, int64_t end, int worker) {
    const linear_chunk *chunk = context;
    const visatb_vitw_linear_loss_args *args = &chunk->call->args;
    if (args->bias_gradient != NULL)
        sum_bias_gradient(chunk, first, end);
    if (args->weight_gradient == NULL)
        return;
    blas_product product = {
        .a_turned = true,
        .accumulate = chunk->adds,
        .rows = end - first,
        .columns = args->hidden_size,
        .depth = chunk->rows,
        .a = at(chunk, chunk->logits, chunk->layout->logits_stride, 0, first),
        .a_stride = chunk->layout->logits_stride,
        .b = chunk->hidden,
        .b_stride = args->hidden_size,
        .c = at(chunk, args->weight_gradient, args->hidden_size, first, 0),
        .c_stride = args->hidden_size,
    };
    multiply(chunk, worker, &product);
}

void linear_multiply_head_gradient(linear_chunk *chunk) {
    parallel_for(chunk->layout->workers, chunk->call->args.team, chunk->call->args.vocab, chunk->layout->edge,
                 multiply_head_gradient_of, chunk);
}

/* --- the gradient of hidden ------------------------------------------------------------------------------
 */

/* Tiles of half as many rows as columns: the head, which is read for every tile of rows, is the larger
 * matrix; and there must be enough tiles to go round. */
static int64_t tile_rows(const linear_chunk *chunk) {
    return chunk->layout->edge / 2;
}

static int64_t tiles_of_columns(const linear_chunk *chunk) {
    return (chunk->call->args.hidden_size - 1) / chunk->layout->edge + 1;
}

static void multiply_hidden_tile(const linear_chunk *chunk, int64_t row, int64_t column, int worker) {
    const visatb_vitw_linear_loss_args *args = &chunk->call->args;
    const int64_t columns = smaller(chunk->layout->edge, args->hidden_size - column);
    const int64_t step = depth_at_a_time(chunk, args->vocab);
    for (int64_t k = 0; k < args->vocab; k += step) {
        const int64_t depth = smaller(step, args->vocab - k);
        const head_part head = part_of_head(chunk, worker, k, depth, column, columns);
        blas_product product = {
            .accumulate = k > 0,
            .rows = smaller(tile_rows(chunk), chunk->rows - row),
            .columns = columns,
            .depth = depth,
            .a = at(chunk, chunk->logits, chunk->layout->logits_stride, row, k),
            .a_stride = chunk->layout->logits_stride,
            .b = head.start,
            .b_stride = head.stride,
            .c = at(chunk, chunk->hidden, args->hidden_size, row, column),
            .c_stride = args->hidden_size,
        };
        multiply(chunk, worker, &product);
    }
}

static void multiply_hidden_tiles(void *context, int64_t first, int64_t end, int worker) {
    const linear_chunk *chunk = context;
    for (int64_t tile = first; tile < end; ++tile)
        multiply_hidden_tile(chunk, tile / tiles_of_columns(chunk) * tile_rows(chunk),
                             tile % tiles_of_columns(chunk) * chunk->layout->edge, worker);
}

void linear_multiply_hidden_gradient(linear_chunk *chunk) {
    const int64_t tiles = ((chunk->rows - 1) / tile_rows(chunk) + 1) * tiles_of_columns(chunk);
    parallel_for(chunk->layout->workers, chunk->call->args.team, tiles, 1, multiply_hidden_tiles, chunk);
}
