/* The loss of one row in plain C. A row passes in tiles of double: once for its maximum, once for the sums,
 * once for the gradient. The three passes read the same memory, which is cheaper than keeping a row in
 * double. */
#include "cpu/portable.h"

#include "cpu/convert.h"
#include "cpu/softcap.h"

#include <math.h>

enum { TILE = 256 };

static int64_t tile_length(const loss_row *row, int64_t first) {
    const int64_t left = row->vocab - first;
    return left < TILE ? left : TILE;
}

static bool tile_holds_label(const loss_row *row, int64_t first, int64_t count) {
    return row->label >= first && row->label - first < count;
}

/* False for +inf, or a NaN. */
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
    return largest < INFINITY;
}

/* z of a tile. */
static void read_capped(const loss_row *row, int64_t first, int64_t count, double *tile) {
    convert_read(row->dtype, row->logits, first, count, tile);
    for (int64_t i = 0; row->softcap > 0 && i < count; ++i)
        tile[i] = softcap_of(tile[i], row->softcap);
}

/* Sums of sums of tiles: rounding errors grow with the tile and the number of tiles, not with the
 * vocabulary. */
static void add_up(const loss_row *row, loss_softmax *softmax) {
    double tile[TILE];
    softmax->others = 0;
    softmax->sum = 0;
    for (int64_t first = 0; first < row->vocab; first += TILE) {
        const int64_t count = tile_length(row, first);
        read_capped(row, first, count, tile);
        double tile_sum = 0;
        for (int64_t i = 0; row->with_sum && i < count; ++i)
            tile_sum += tile[i];
        softmax->sum += tile_sum;
        if (tile_holds_label(row, first, count))
            tile[row->label - first] = -INFINITY;
        tile_sum = 0;
        for (int64_t i = 0; i < count; ++i)
            tile_sum += exp(tile[i] - softmax->reference);
        softmax->others += tile_sum;
    }
}

static bool portable_softmax(const loss_row *row, loss_softmax *softmax) {
    if (!find_maximum(row, &softmax->largest))
        return false;
    softmax->maximum = softcap_of(softmax->largest, row->softcap);
    /* Of nothing but -inf, whose exponentials are 0 by any other reference. */
    softmax->reference = softmax->maximum > -INFINITY ? softmax->maximum : 0;
    softmax->target_logit = -INFINITY;
    softmax->target_slope = 1;
    if (row->label != LOSS_NO_LABEL) {
        double target_logit = 0;
        convert_read(row->dtype, row->logits, row->label, 1, &target_logit);
        softmax->target_logit = softcap_of(target_logit, row->softcap);
        softmax->target_slope = softcap_slope_of(target_logit, row->softcap);
    }
    softmax->target = exp(softmax->target_logit - softmax->reference);
    add_up(row, softmax);
    return true;
}

static void portable_gradient(const loss_row *row, const loss_softmax *softmax, const loss_terms *terms) {
    double tile[TILE];
    const double factor = terms->probability / (softmax->target + softmax->others);
    for (int64_t first = 0; first < row->vocab; first += TILE) {
        const int64_t count = tile_length(row, first);
        convert_read(row->dtype, row->logits, first, count, tile);
        for (int64_t i = 0; i < count; ++i) {
            const double p = factor * exp(softcap_of(tile[i], row->softcap) - softmax->maximum);
            tile[i] = (p - terms->uniform) * softcap_slope_of(tile[i], row->softcap);
        }
        if (tile_holds_label(row, first, count))
            tile[row->label - first] = terms->target * softmax->target_slope;
        convert_write(row->dtype, tile, first, count, row->gradient);
    }
}

static void portable_fill(const loss_row *row, double value) {
    double tile[TILE];
    for (int i = 0; i < TILE; ++i)
        tile[i] = value;
    for (int64_t first = 0; first < row->vocab; first += TILE)
        convert_write(row->dtype, tile, first, tile_length(row, first), row->gradient);
}

static size_t portable_scratch_bytes(visatb_dtype dtype, int64_t vocab, bool capped) {
    (void)dtype;
    (void)vocab;
    (void)capped;
    return 0;
}

const loss_backend portable_backend = {
    .scratch_bytes = portable_scratch_bytes,
    .softmax = portable_softmax,
    .gradient = portable_gradient,
    .fill = portable_fill,
};
