/* The loss of one row in plain C. A row passes in tiles of double: once for its maximum, once for the sums,
 * once for the gradient. The three passes read the same memory, which is cheaper than keeping a row in
 * double. */
#include "cpu/portable.h"

#include "cpu/convert.h"

#include <math.h>

enum { TILE = 256 };

static int64_t tile_length(const loss_row *row, int64_t first) {
    const int64_t left = row->vocab - first;
    return left < TILE ? left : TILE;
}

static bool tile_holds_label(const loss_row *row, int64_t first, int64_t count) {
    return row->label >= first && row->label - first < count;
}

/* False where the row has no finite maximum, or a NaN beside it. */
static bool find_maximum(const loss_row *row, double *maximum) {
    double tile[TILE];
    double largest = -INFINITY;
    for (int64_t first = 0; first < row->vocab; first += TILE) {
        const int64_t count = tile_length(row, first);
        convert_read(row->dtype, row->logits, first, count, tile);
        for (int64_t i = 0; i < count; ++i) {
            if (isnan(tile[i]))
                return false;
            if (tile[i] > largest)
                largest = tile[i];
        }
    }
    *maximum = largest;
    return isfinite(largest);
}

/* A sum of sums of tiles: rounding errors grow with the tile and the number of tiles, not with the
 * vocabulary. */
static double sum_of_others(const loss_row *row, double maximum) {
    double tile[TILE];
    double sum = 0;
    for (int64_t first = 0; first < row->vocab; first += TILE) {
        const int64_t count = tile_length(row, first);
        convert_read(row->dtype, row->logits, first, count, tile);
        if (tile_holds_label(row, first, count))
            tile[row->label - first] = -INFINITY;
        double tile_sum = 0;
        for (int64_t i = 0; i < count; ++i)
            tile_sum += exp(tile[i] - maximum);
        sum += tile_sum;
    }
    return sum;
}

static bool portable_softmax(const loss_row *row, loss_softmax *softmax) {
    double maximum = 0;
    if (!find_maximum(row, &maximum))
        return false;
    double target_logit = 0;
    convert_read(row->dtype, row->logits, row->label, 1, &target_logit);
    softmax->maximum = maximum;
    softmax->target_logit = target_logit;
    softmax->target = exp(target_logit - maximum);
    softmax->others = sum_of_others(row, maximum);
    return true;
}

static void portable_gradient(const loss_row *row, const loss_softmax *softmax, double weight,
                              void *gradient) {
    double tile[TILE];
    const double sum = softmax->target + softmax->others;
    const double factor = weight / sum;
    for (int64_t first = 0; first < row->vocab; first += TILE) {
        const int64_t count = tile_length(row, first);
        convert_read(row->dtype, row->logits, first, count, tile);
        for (int64_t i = 0; i < count; ++i)
            tile[i] = factor * exp(tile[i] - softmax->maximum);
        if (tile_holds_label(row, first, count))
            tile[row->label - first] = -weight * (softmax->others / sum);
        convert_write(row->dtype, tile, first, count, gradient);
    }
}

static void portable_fill(const loss_row *row, double value, void *gradient) {
    double tile[TILE];
    for (int i = 0; i < TILE; ++i)
        tile[i] = value;
    for (int64_t first = 0; first < row->vocab; first += TILE)
        convert_write(row->dtype, tile, first, tile_length(row, first), gradient);
}

const loss_backend portable_backend = {
    .name = "portable",
    .softmax = portable_softmax,
    .gradient = portable_gradient,
    .fill = portable_fill,
};
