/* The loss of one row in fp32 vectors: the algorithm, written once, for any instruction set. A file that
 * includes this defines the vectors first, and SIMD_BACKEND, the name of its table.
 *
 * A row is read from memory once. Its exponentials are kept, in the gradient where that is fp32 and in
 * scratch else, both in cache; when their sum is known they are scaled where they lie, or into the gradient.
 */
#ifndef VISATB_CPU_SIMD_ROW_H
#define VISATB_CPU_SIMD_ROW_H

#include "cpu/convert.h"
#include "cpu/portable.h"
#include "cpu/simd.h"
#include "cpu/simd_tile.h"
#include "cpu/softcap.h"

/* --- softmax ------------------------------------------------------------------------------------------ */

/* The passage through a row. */
typedef struct passage {
    const loss_row *row;
    float *kept;   /* [vocab]: the exponentials; NULL: not wanted */
    float *slopes; /* [vocab] where capped and wanted, else NULL */
    bool lost;     /* to a logit of +inf */
    bool referred; /* whether `at` comes from logits of this row */
    reference at;
    double others;
    double sum;
    float largest_logit; /* before capping, if there is a cap */
    float largest;       /* z, the label's not among them */
} passage;

static const void *elements_from(const loss_row *row, int64_t first) {
    return (const unsigned char *)row->logits + (size_t)first * convert_element_size(row->dtype);
}

static float larger(float a, float b) {
    return a > b ? a : b;
}

static size_t row_floats(int64_t vocab) {
    return ((size_t)vocab + STEP - 1) / STEP * STEP;
}

/* Exponentials grow relative to where the row began: what was kept so far is brought to a new reference. */
static void refer_to(passage *pass, float z, int64_t done) {
    const reference before = pass->at;
    pass->at = reference_near(z);
    if (!pass->referred) {
        pass->referred = true;
        return;
    }
    const double scale = exp(reference_value(before) - reference_value(pass->at));
    pass->others *= scale;
    for (int64_t i = 0; pass->kept != NULL && i < done; ++i)
        pass->kept[i] = (float)((double)pass->kept[i] * scale);
}

static bool is_too_high(const passage *pass, float largest) {
    return largest > -INFINITY && (!pass->referred || (double)largest > reference_value(pass->at) + headroom);
}

static bool keeps_in_gradient(const loss_row *row) {
    return row->dtype == VISATB_DTYPE_FLOAT32 && !(row->softcap > 0);
}

/* Takes a tile of z into the row's sums. `elements` are those of the row, or a copy; in the order of pairs.
 */
static void take_tile(passage *pass, visatb_dtype dtype, const run *of, int64_t first) {
    /* What overwrites its own elements has one try. Else the reference is as good as always high enough
     * already, and it is cheaper to try than to look for the maximum first. */
    run_sum tile = {0, -INFINITY};
    const bool look_first = !pass->referred || of->kept == of->elements;
    if (look_first)
        tile.largest = maximum_of(dtype, of->elements, of->count);
    else
        tile = exps_of(dtype, of, pass->at);
    pass->largest = larger(tile.largest, pass->largest);
    pass->lost = !(tile.largest < INFINITY);
    if (pass->lost)
        return;
    const bool refer = is_too_high(pass, tile.largest);
    if (refer)
        refer_to(pass, tile.largest, first);
    if (look_first || refer)
        tile = exps_of(dtype, of, pass->at);
    pass->others += tile.sum;
}

static void pass_plain_tile(passage *pass, int64_t first) {
    const loss_row *row = pass->row;
    const run of = {
        .elements = elements_from(row, first),
        .count = TILE,
        .kept = pass->kept != NULL ? pass->kept + first : NULL,
    };
    if (row->with_sum)
        pass->sum += sum_of(row->dtype, of.elements, TILE);
    take_tile(pass, row->dtype, &of, first);
}

/* A tile of any type. */
typedef union tile_elements {
    float of_32_bits[TILE];
    uint16_t of_16_bits[TILE];
} tile_elements;

/* The tile's elements, filled up with -inf to whole steps; returns how many that makes. */
static int64_t copy_tile(const loss_row *row, int64_t first, int64_t count, void *elements) {
    const double nothing = -INFINITY;
    const int64_t padded = (int64_t)row_floats(count);
    memcpy(elements, elements_from(row, first), (size_t)count * convert_element_size(row->dtype));
    for (int64_t i = count; i < padded; ++i)
        convert_write(row->dtype, &nothing, i, 1, elements);
    return padded;
}

static double sum_of_part(visatb_dtype dtype, const void *elements, int64_t count) {
    const int64_t whole = count / PAIR * PAIR;
    double rest[PAIR];
    convert_read(dtype, elements, whole, count - whole, rest);
    double sum = sum_of(dtype, elements, whole);
    for (int64_t i = 0; i < count - whole; ++i)
        sum += rest[i];
    return sum;
}

static bool holds_label(const loss_row *row, int64_t first, int64_t count) {
    return row->label >= first && row->label - first < count;
}

/* The tile with the label, and the last one: through a copy, where -inf takes the place of the label and
 * fills up the end. */
static void pass_edge_tile(passage *pass, int64_t first, int64_t count) {
    const loss_row *row = pass->row;
    const double nothing = -INFINITY;
    tile_elements elements;
    float e[TILE];
    const int64_t padded = copy_tile(row, first, count, &elements);
    if (row->with_sum)
        pass->sum += sum_of_part(row->dtype, &elements, count);
    if (holds_label(row, first, count))
        convert_write(row->dtype, &nothing, row->label - first, 1, &elements);
    const run of = {
        .elements = &elements, .count = padded, .copied = true, .kept = pass->kept != NULL ? e : NULL};
    take_tile(pass, row->dtype, &of, first);
    fetch_ahead(elements_from(row, first), (size_t)count * convert_element_size(row->dtype));
    /* In the gradient there is no room for what fills up the end; in scratch it is part of the last pair. */
    if (pass->kept != NULL)
        memcpy(pass->kept + first, e, (size_t)(keeps_in_gradient(row) ? count : padded) * sizeof *e);
}

static void pass_capped_tile(passage *pass, int64_t first, int64_t count) {
    const loss_row *row = pass->row;
    tile_elements elements;
    float z[TILE];
    float low[TILE];
    float slope[TILE];
    const int64_t padded = copy_tile(row, first, count, &elements);
    const float largest_logit = maximum_of(row->dtype, &elements, padded);
    pass->largest_logit = larger(largest_logit, pass->largest_logit);
    /* A cap would hide it. */
    pass->lost = !(largest_logit < INFINITY);
    if (pass->lost)
        return;
    for (int64_t i = 0; i < padded; i += PAIR)
        store_float32(z, i, load(row->dtype, &elements, i));
    cap_tile(row->softcap, padded, z, low, slope);
    for (int64_t i = 0; row->with_sum && i < count; ++i)
        pass->sum += (double)z[place_of(row->dtype, i)] + (double)low[place_of(row->dtype, i)];
    for (int64_t i = count; i < padded; ++i)
        z[place_of(row->dtype, i)] = -INFINITY;
    if (holds_label(row, first, count))
        z[place_of(row->dtype, row->label - first)] = -INFINITY;

    const float largest = maximum_of(VISATB_DTYPE_FLOAT32, z, padded);
    pass->largest = larger(largest, pass->largest);
    if (is_too_high(pass, largest))
        refer_to(pass, largest, first);
    const run of = {.elements = z,
                    .count = padded,
                    .copied = true,
                    .low = low,
                    .kept = pass->kept != NULL ? pass->kept + first : NULL};
    if (pass->kept == NULL) {
        pass->others += exps_by(load_float32, sizeof(float), &of, pass->at, true, false).sum;
        return;
    }
    pass->others += exps_by(load_float32, sizeof(float), &of, pass->at, true, true).sum;
    memcpy(pass->slopes + first, slope, (size_t)padded * sizeof *slope);
}

static void pass_row(passage *pass) {
    const loss_row *row = pass->row;
    for (int64_t first = 0; first < row->vocab && !pass->lost; first += TILE) {
        const int64_t count = row->vocab - first < TILE ? row->vocab - first : TILE;
        if (row->softcap > 0)
            pass_capped_tile(pass, first, count);
        else if (count < TILE || holds_label(row, first, count))
            pass_edge_tile(pass, first, count);
        else
            pass_plain_tile(pass, first);
    }
}

static float *place_of_exps(const loss_row *row) {
    return keeps_in_gradient(row) ? row->gradient : row->scratch;
}

static float *place_of_slopes(const loss_row *row) {
    return row->softcap > 0 ? row->scratch + row_floats(row->vocab) : NULL;
}

/* Nobody caps there. Beyond, what a float misses of z is no longer small, and such rows go to the portable
 * code. */
static const double largest_cap = 1e6;

static bool simd_softmax(const loss_row *row, loss_softmax *softmax) {
    if (row->softcap > largest_cap)
        return portable_backend.softmax(row, softmax);
    double target = -INFINITY;
    if (row->label != LOSS_NO_LABEL)
        convert_read(row->dtype, row->logits, row->label, 1, &target);
    const bool wanted = row->gradient != NULL;
    passage pass = {
        .row = row,
        .kept = wanted ? place_of_exps(row) : NULL,
        .slopes = wanted ? place_of_slopes(row) : NULL,
        .largest_logit = -INFINITY,
        .largest = -INFINITY,
    };
    pass_row(&pass);
    softmax->largest = fmax(target, (double)(row->softcap > 0 ? pass.largest_logit : pass.largest));
    if (pass.lost || isnan(target) || isnan(pass.others) || !(softmax->largest < INFINITY))
        return false;

    softmax->target_logit = row->label != LOSS_NO_LABEL ? softcap_of(target, row->softcap) : -INFINITY;
    softmax->target_slope = softcap_slope_of(target, row->softcap);
    softmax->maximum = fmax(softmax->target_logit, (double)pass.largest);
    softmax->sum = pass.sum;
    /* Without a reference there is no other logit but -inf: all that was added up and kept is 0. */
    softmax->reference = pass.referred ? reference_value(pass.at) : softmax->maximum;
    softmax->target = 0;
    softmax->others = 0;
    if (softmax->maximum > -INFINITY) {
        softmax->target = exp(softmax->target_logit - softmax->maximum);
        softmax->others = pass.others * exp(softmax->reference - softmax->maximum);
    }
    return true;
}

/* --- gradient ----------------------------------------------------------------------------------------- */

/* The last elements, less than a pair: by way of a buffer of that size. */
static void scale_rest(const loss_row *row, const scaling *by, int64_t first, int64_t count) {
    const size_t element = convert_element_size(row->dtype);
    float e[PAIR] = {0};
    float gradient[PAIR];
    memcpy(e, by->e + first, (size_t)(keeps_in_gradient(row) ? count : PAIR) * sizeof *e);
    scaling rest = *by;
    rest.e = e;
    rest.slopes = by->slopes != NULL ? by->slopes + first : NULL;
    scale_whole(row->dtype, &rest, PAIR, gradient);
    memcpy((unsigned char *)row->gradient + (size_t)first * element, gradient, (size_t)count * element);
}

/* For a factor that fp32 does not hold: of a row that is surer than e^-87, or of a giant weight. */
static void scale_in_double(const loss_row *row, const scaling *by, double factor, double uniform) {
    double tile[TILE];
    for (int64_t first = 0; first < row->vocab; first += TILE) {
        const int64_t count = row->vocab - first < TILE ? row->vocab - first : TILE;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t place = place_of(row->dtype, first + i);
            const double slope = by->slopes != NULL ? (double)by->slopes[place] : 1;
            tile[i] = (factor * (double)by->e[place] - uniform) * slope;
        }
        convert_write(row->dtype, tile, first, count, row->gradient);
    }
}

static bool is_normal_float(double value) {
    return fabs(value) >= (double)FLT_MIN && fabs(value) <= (double)FLT_MAX;
}

static void simd_gradient(const loss_row *row, const loss_softmax *softmax, const loss_terms *terms) {
    if (row->softcap > largest_cap) {
        portable_backend.gradient(row, softmax, terms);
        return;
    }
    const double factor =
        terms->probability / (softmax->target + softmax->others) * exp(softmax->reference - softmax->maximum);
    const scaling by = {
        .e = place_of_exps(row),
        .slopes = place_of_slopes(row),
        .factor = (float)factor,
        .uniform = (float)terms->uniform,
    };
    const double largest_term = fmax(fabs(terms->probability), fabs(terms->uniform));
    if (is_normal_float(factor) && largest_term <= (double)FLT_MAX) {
        const int64_t whole = row->vocab / PAIR * PAIR;
        scale_whole(row->dtype, &by, whole, row->gradient);
        if (whole < row->vocab)
            scale_rest(row, &by, whole, row->vocab - whole);
    } else {
        scale_in_double(row, &by, factor, terms->uniform);
    }
    const double target = terms->target * softmax->target_slope;
    if (row->label != LOSS_NO_LABEL)
        convert_write(row->dtype, &target, row->label, 1, row->gradient);
}

static void simd_fill(const loss_row *row, double value) {
    if (value == 0)
        memset(row->gradient, 0, (size_t)row->vocab * convert_element_size(row->dtype));
    else
        portable_backend.fill(row, value);
}

static size_t simd_scratch_bytes(visatb_dtype dtype, int64_t vocab, bool capped) {
    const size_t row_bytes = row_floats(vocab) * sizeof(float);
    if (capped)
        return 2 * row_bytes;
    return dtype == VISATB_DTYPE_FLOAT32 ? 0 : row_bytes;
}

const loss_backend SIMD_BACKEND = {
    .scratch_bytes = simd_scratch_bytes,
    .softmax = simd_softmax,
    .gradient = simd_gradient,
    .fill = simd_fill,
};

#endif
