/* A product in blocks that fit the caches, written once for any vector. A file that includes this defines
 * first: scalar, vec, LANES, PANEL_ROWS, vec_set, vec_load, vec_store, vec_add and vec_fma; it ends with
 * VISATB_PLAIN_PRODUCT(its name).
 *
 * Blocks of A and B are copied into panels: of B, two vectors of columns by depth; of A, PANEL_ROWS rows, as
 * they are stored, because its elements are used one by one. The sums of a panel of A with a panel of B stay
 * in registers for a whole block of depth; for that their loops are unrolled. Every element of C is added up
 * in the order of depth, so its bits depend on the depth of a block alone, and not on where in C it stands.
 */
#include "blas/plain.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum {
    PANEL_COLUMNS = 2 * LANES,
    DEPTH = 256, /* of a block: a panel of A stays in the first cache, a block of B in the second */
    RUN = 16,    /* elements that are read in one go where a panel turns a matrix */
};

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- panels ------------------------------------------------------------------------------------------- */

/* Where in a panel of A the element of row i at depth k stands: i * by_row + k * by_depth. */
typedef struct panel_layout {
    int64_t by_row;
    int64_t by_depth;
} panel_layout;

/* A line more than the depth: rows that are a power of two apart would compete for the same places in the
 * cache. */
enum { PANEL_STRIDE = DEPTH + 64 / sizeof(scalar), PANEL_SIZE = PANEL_ROWS * PANEL_STRIDE };

static const panel_layout as_stored = {.by_row = PANEL_STRIDE, .by_depth = 1};
static const panel_layout turned = {.by_row = 1, .by_depth = PANEL_ROWS};

/* [count, width] of `stride`, with zeros after `there` columns. */
INLINE void copy_columns(const scalar *from, int64_t stride, int64_t count, int64_t there, int64_t width,
                         scalar *to) {
    for (int64_t k = 0; k < count; ++k, from += stride, to += width) {
        if (there < width) {
            memset(to, 0, (size_t)width * sizeof *to);
            memcpy(to, from, (size_t)there * sizeof *to);
        } else {
            memcpy(to, from, (size_t)width * sizeof *to);
        }
    }
}

/* Elements of a row in the order of depth; those of several rows, stored one after the other, in `to`. */
INLINE void turn_rows(const scalar *from, int64_t stride, int64_t there, int64_t depth, scalar *to) {
    if (there < PANEL_COLUMNS)
        memset(to, 0, (size_t)(PANEL_COLUMNS * depth) * sizeof *to);
    for (int64_t k = 0; k < depth; k += RUN) {
        const int64_t run = smaller(RUN, depth - k);
        for (int64_t j = 0; j < there; ++j) {
            const scalar *row = from + j * stride + k;
            for (int64_t i = 0; i < run; ++i)
                to[(k + i) * PANEL_COLUMNS + j] = row[i];
        }
    }
}

static void pack_a(const blas_product *p, int64_t row, int64_t rows, int64_t k, int64_t depth, scalar *to) {
    const scalar *a = p->a;
    for (int64_t first = row; first < row + rows; first += PANEL_ROWS, to += PANEL_SIZE) {
        const int64_t there = smaller(PANEL_ROWS, row + rows - first);
        if (p->a_turned) {
            copy_columns(a + k * p->a_stride + first, p->a_stride, depth, there, PANEL_ROWS, to);
            continue;
        }
        for (int64_t i = 0; i < PANEL_ROWS; ++i) {
            if (i < there)
                memcpy(to + i * PANEL_STRIDE, a + (first + i) * p->a_stride + k, (size_t)depth * sizeof *to);
            else
                memset(to + i * PANEL_STRIDE, 0, (size_t)depth * sizeof *to);
        }
    }
}

static void pack_b(const blas_product *p, int64_t column, int64_t columns, int64_t k, int64_t depth,
                   scalar *to) {
    const scalar *b = p->b;
    for (int64_t first = column; first < column + columns;
         first += PANEL_COLUMNS, to += PANEL_COLUMNS * depth) {
        const int64_t there = smaller(PANEL_COLUMNS, column + columns - first);
        if (p->b_turned)
            turn_rows(b + first * p->b_stride + k, p->b_stride, there, depth, to);
        else
            copy_columns(b + k * p->b_stride + first, p->b_stride, depth, there, PANEL_COLUMNS, to);
    }
}

/* --- one panel by another ------------------------------------------------------------------------------- */

/* [PANEL_ROWS, PANEL_COLUMNS] of C. */
INLINE void multiply_panels(int64_t depth, const scalar *a, panel_layout layout, const scalar *b, scalar *c,
                            int64_t c_stride, bool accumulate) {
    vec sums[PANEL_ROWS][2];
    for (int i = 0; i < PANEL_ROWS; ++i)
        sums[i][0] = sums[i][1] = vec_set(0);
    for (int64_t k = 0; k < depth; ++k, a += layout.by_depth, b += PANEL_COLUMNS) {
        const vec b0 = vec_load(b);
        const vec b1 = vec_load(b + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < PANEL_ROWS; ++i) {
            const vec element = vec_set(a[i * layout.by_row]);
            sums[i][0] = vec_fma(element, b0, sums[i][0]);
            sums[i][1] = vec_fma(element, b1, sums[i][1]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < PANEL_ROWS; ++i) {
        scalar *row = c + i * c_stride;
        if (accumulate) {
            sums[i][0] = vec_add(vec_load(row), sums[i][0]);
            sums[i][1] = vec_add(vec_load(row + LANES), sums[i][1]);
        }
        vec_store(row, sums[i][0]);
        vec_store(row + LANES, sums[i][1]);
    }
}

/* --- blocks -------------------------------------------------------------------------------------------- */

typedef struct packed_block {
    int64_t rows;
    int64_t columns;
    int64_t depth;
    const scalar *a;
    const scalar *b;
    scalar *c;
    int64_t c_stride;
    bool accumulate;
} packed_block;

/* At the edges of C: by way of a tile of full size. */
INLINE void multiply_at_edge(const packed_block *block, const scalar *a, panel_layout layout, const scalar *b,
                             int64_t row, int64_t column) {
    scalar tile[PANEL_ROWS * PANEL_COLUMNS];
    multiply_panels(block->depth, a, layout, b, tile, PANEL_COLUMNS, false);
    for (int64_t i = row; i < smaller(block->rows, row + PANEL_ROWS); ++i)
        for (int64_t j = column; j < smaller(block->columns, column + PANEL_COLUMNS); ++j) {
            const scalar sum = tile[(i - row) * PANEL_COLUMNS + j - column];
            scalar *c = block->c + i * block->c_stride + j;
            *c = block->accumulate ? *c + sum : sum;
        }
}

INLINE void multiply_block(const packed_block *block, panel_layout layout) {
    for (int64_t i = 0; i < block->rows; i += PANEL_ROWS) {
        const scalar *a = block->a + i / PANEL_ROWS * PANEL_SIZE;
        for (int64_t j = 0; j < block->columns; j += PANEL_COLUMNS) {
            const scalar *b = block->b + j * block->depth;
            if (i + PANEL_ROWS <= block->rows && j + PANEL_COLUMNS <= block->columns)
                multiply_panels(block->depth, a, layout, b, block->c + i * block->c_stride + j,
                                block->c_stride, block->accumulate);
            else
                multiply_at_edge(block, a, layout, b, i, j);
        }
    }
}

static int64_t block_depth(int64_t edge) {
    return smaller(edge, DEPTH);
}

static size_t plain_room_bytes(int64_t edge) {
    const int64_t of_a = (edge + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_SIZE;
    const int64_t of_b = (edge + PANEL_COLUMNS - 1) / PANEL_COLUMNS * PANEL_COLUMNS * block_depth(edge);
    return (size_t)(of_a + of_b) * sizeof(scalar);
}

static void plain_multiply(const blas_product *p) {
    const int64_t deepest = block_depth(p->edge);
    scalar *const packed_b = p->room;
    scalar *const packed_a =
        packed_b + (p->edge + PANEL_COLUMNS - 1) / PANEL_COLUMNS * PANEL_COLUMNS * deepest;
    scalar *const c = p->c;
    for (int64_t k = 0; k < p->depth; k += deepest) {
        const int64_t depth = smaller(deepest, p->depth - k);
        for (int64_t row = 0; row < p->rows; row += p->edge) {
            const int64_t rows = smaller(p->edge, p->rows - row);
            pack_a(p, row, rows, k, depth, packed_a);
            for (int64_t column = 0; column < p->columns; column += p->edge) {
                const int64_t columns = smaller(p->edge, p->columns - column);
                pack_b(p, column, columns, k, depth, packed_b);
                const packed_block block = {
                    .rows = rows,
                    .columns = columns,
                    .depth = depth,
                    .a = packed_a,
                    .b = packed_b,
                    .c = c + row * p->c_stride + column,
                    .c_stride = p->c_stride,
                    .accumulate = p->accumulate || k > 0,
                };
                if (p->a_turned)
                    multiply_block(&block, turned);
                else
                    multiply_block(&block, as_stored);
            }
        }
    }
}

#define VISATB_PLAIN_PRODUCT(name)                                                                           \
    void name##_multiply(const blas_product *product) {                                                      \
        plain_multiply(product);                                                                             \
    }                                                                                                        \
    size_t name##_room_bytes(int64_t edge) {                                                                 \
        return plain_room_bytes(edge);                                                                       \
    }
