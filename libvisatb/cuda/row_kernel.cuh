/* The loss of a row and its gradient, by the blocks of a cluster, each of which has a slice of it. What
 * differs between the kernels is where a slice is read from, twice: `Slice` is shared memory (one_read.cu) or
 * the row itself (two_read.cu).
 *
 *   1. each thread adds up exponentials (softmax.cuh), the threads of a warp their sums, the warps of a block
 *      theirs, and the blocks of a cluster theirs: always in the same order
 *   2. the first thread of every block finds the terms of the gradient, each for its own block
 *   3. the gradient is formed from the logits once more and rounded once */
#ifndef VISATB_CUDA_ROW_KERNEL_CUH
#define VISATB_CUDA_ROW_KERNEL_CUH

#include "cuda/paths.h"
#include "cuda/row_rules.cuh"
#include "cuda/softmax.cuh"

enum { MOST_WARPS = PATH_MOST_THREADS / WARP };

/* (factor * exp(z - z(reference)) - uniform) * slope; that of the label, `target`. */
struct row_gradient {
    double factor;
    double uniform;
    double target;
    float reference;
    bool spoiled; /* NaN everywhere */
    bool wide;    /* fp32 does not hold the terms: a weight is giant or tiny */
};

/* What the threads of a block tell each other, at the start of its shared memory. */
struct block_state {
    uint64_t arrival; /* of a bulk copy */
    row_gradient gradient;
    partial warps[MOST_WARPS];
    partial blocks[PATH_MOST_CLUSTER]; /* written by the blocks of the cluster */
};

static_assert(sizeof(block_state) <= PATH_STATE_BYTES,
              "the shared memory of a block has no room for its state");

/* The granules of a row that a block has. */
struct block_share {
    int32_t first;
    int32_t end;
};

DEVICE block_share share_of(int32_t granules, int rank, int ranks) {
    const int32_t each = granules / ranks;
    const int32_t more = granules % ranks; /* the first so many blocks have one more */
    block_share share;
    share.first = each * rank + (rank < more ? rank : more);
    share.end = share.first + each + (rank < more ? 1 : 0);
    return share;
}

/* --- 1. sums ------------------------------------------------------------------------------------------- */

/* So many granules of a thread are read before the first is used, to have that many reads under way. */
template <typename Slice>
DEVICE void read_ahead(const Slice &slice, const block_share &share, int32_t first, granule *granules) {
#pragma unroll
    for (int i = 0; i < Slice::AHEAD; ++i) {
        const int32_t g = first + i * thread_count();
        if (g < share.end)
            granules[i] = Slice::read(slice, g);
    }
}

template <typename Element, bool OPTIONS>
DEVICE void take_in_granule(running_sum<OPTIONS> *running, const granule &bits,
                            const granule_row<Element> &row, int32_t g, int32_t label, const softcap &cap,
                            bool with_sum) {
    enum { COUNT = Element::IN_GRANULE };
    float x[COUNT];
    Element::widen(bits, x);
    const int32_t first = first_of_granule(row, g);
    const int32_t skipped = label - first;
    const bool has_label = skipped >= 0 && skipped < COUNT;
    if (is_whole(row, g) && !has_label) {
        take_in<OPTIONS, COUNT>(running, x, true, 0, COUNT, COUNT, cap, with_sum);
        return;
    }
    const int64_t left = row.count - first;
    take_in<OPTIONS, COUNT>(running, x, false, first < 0 ? (int)-first : 0, left < COUNT ? (int)left : COUNT,
                            has_label ? (int)skipped : COUNT, cap, with_sum);
}

template <typename Element, bool OPTIONS, typename Slice>
DEVICE partial sum_of_thread(const Slice &slice, const block_share &share, int32_t label, const softcap &cap,
                             bool with_sum) {
    running_sum<OPTIONS> running = running_sum<OPTIONS>::begin(cap);
    granule granules[Slice::AHEAD];
    for (int32_t g = share.first + thread_index(); g < share.end; g += Slice::AHEAD * thread_count()) {
        read_ahead(slice, share, g, granules);
#pragma unroll
        for (int i = 0; i < Slice::AHEAD; ++i)
            if (g + i * thread_count() < share.end)
                take_in_granule<Element, OPTIONS>(&running, granules[i], slice.row, g + i * thread_count(),
                                                  label, cap, with_sum);
    }
    return partial_of(running);
}

/* The sums of the block, in the threads of its first warp. */
template <bool OPTIONS> DEVICE partial sum_of_block(block_state *state, partial p, const softcap &cap) {
    p = of_warp<OPTIONS>(p, cap);
    if (thread_index() % WARP == 0)
        state->warps[thread_index() / WARP] = p;
    block_barrier();
    if (thread_index() >= WARP)
        return p;
    const int warps = thread_count() / WARP;
    return of_warp<OPTIONS>(thread_index() < warps ? state->warps[thread_index()] : no_partial(), cap);
}

/* The sums of the cluster, in the threads of the first warp of each block. */
template <bool OPTIONS> DEVICE partial sum_of_cluster(block_state *state, partial p, const softcap &cap) {
    const int blocks = cluster_size();
    if (blocks == 1)
        return p;
    cluster_wait(); /* for all blocks to be there */
    if (thread_index() < blocks)
        *cluster_address(&state->blocks[cluster_rank()], thread_index()) = p;
    cluster_arrive();
    cluster_wait();
    if (thread_index() >= WARP)
        return p;
    return of_warp<OPTIONS>(thread_index() < blocks ? state->blocks[thread_index()] : no_partial(), cap);
}

/* --- 2. terms ------------------------------------------------------------------------------------------ */

DEVICE loss_options options_of(const cuda_loss &loss) {
    loss_options options;
    options.label_smoothing = loss.label_smoothing;
    options.z_loss = loss.z_loss;
    options.vocab = (double)loss.rows.vocab;
    return options;
}

DEVICE row_gradient gradient_of(const cuda_loss &loss, const row_facts &facts, const loss_softmax &softmax,
                                bool good) {
    row_gradient gradient = {};
    const double scale = gradient_scale_of(loss);
    gradient.spoiled = !good || !(fabs(scale) <= DBL_MAX);
    if (gradient.spoiled)
        return gradient;
    const loss_options options = options_of(loss);
    const double lse = loss.z_loss > 0 ? formula_lse(&softmax) : 0;
    const loss_terms terms = formula_terms(&options, &softmax, lse, facts.weight * scale);
    gradient.reference = (float)softmax.reference;
    gradient.factor = terms.probability / (softmax.target + softmax.others);
    gradient.uniform = terms.uniform;
    gradient.target = terms.target * softmax.target_slope;
    const double largest = fabs(gradient.factor) + fabs(gradient.uniform);
    gradient.wide = largest > 0 && !(fabs(gradient.factor) >= FLT_MIN && largest <= FLT_MAX);
    return gradient;
}

DEVICE void write_outcome(const cuda_loss &loss, const row_facts &facts, const loss_softmax &softmax,
                          bool good) {
    const loss_options options = options_of(loss);
    cuda_outcome outcome = spoiled_outcome(VISATB_REPORT_LOGITS);
    if (good) {
        const loss_value value = formula_value(&options, &softmax);
        /* 0 * inf would be no number. */
        outcome.loss = facts.weight > 0 ? facts.weight * value.loss : 0;
        outcome.nll = value.nll;
        outcome.lse = (float)value.lse;
        outcome.code = VISATB_REPORT_OK;
    } else if (facts.weight == 0) {
        outcome.loss = 0;
    }
    loss.outcomes[facts.row] = outcome;
}

/* --- 3. gradient --------------------------------------------------------------------------------------- */

/* The elements of a granule from `first` on, to where they belong: at once, where that is a granule too. */
template <typename Element>
DEVICE void write_gradient(const granule_row<Element> &to, int32_t first, bool aligned, const float *values) {
    enum { COUNT = Element::IN_GRANULE };
    if (aligned && first >= 0 && first + COUNT <= to.count) {
        granule g;
        Element::narrow(values, &g);
        store_granule(to.start + first, g);
        return;
    }
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        if (first + i >= 0 && first + i < to.count)
            to.start[first + i] = Element::narrow(values[i]);
}

template <bool OPTIONS> DEVICE float slope_at(float x, const softcap &cap) {
    if (!OPTIONS || !(cap.cap > 0))
        return 1;
    const saturation s = saturation_of(x, cap);
    return 4 * s.near * s.far;
}

struct float_terms {
    float factor;
    float uniform;
    float target;
};

template <bool OPTIONS, bool EXACT>
DEVICE float derivative(float x, const float_terms &terms, const reference &from, const softcap &cap) {
    const float below = distance<OPTIONS>(x, from, cap);
    const float power = EXACT ? careful_exp_of(below) : exp_of(below);
    return (terms.factor * power - terms.uniform) * slope_at<OPTIONS>(x, cap);
}

/* For terms that fp32 does not hold. */
struct wide_terms {
    double factor;
    double uniform;
    double target;
};

template <bool OPTIONS, bool EXACT>
DEVICE float derivative(float x, const wide_terms &terms, const reference &from, const softcap &cap) {
    const double power = exp((double)distance<OPTIONS>(x, from, cap));
    return (float)((terms.factor * power - terms.uniform) * slope_of((double)x, cap.exact));
}

template <typename Element, bool OPTIONS, typename Terms>
DEVICE void form_gradient_of_granule(const granule &bits, int32_t first, const granule_row<Element> &to,
                                     bool aligned, const Terms &terms, const reference &from,
                                     const softcap &cap) {
    float x[Element::IN_GRANULE];
    Element::widen(bits, x);
#pragma unroll
    for (int i = 0; i < Element::IN_GRANULE; ++i)
        x[i] = derivative<OPTIONS, Element::EXACT != 0>(x[i], terms, from, cap);
    write_gradient<Element>(to, first, aligned, x);
}

/* The label's entry is written like the others, and then by the same thread once more as it should be. There
 * is none where the label is a word of another slice of the vocabulary, and below 0. */
template <typename Element, typename Slice, typename Terms>
DEVICE void correct_label(const Slice &slice, const block_share &share, const granule_row<Element> &to,
                          int32_t label, const Terms &terms) {
    const int32_t g = granule_of(slice.row, label);
    if (label >= 0 && g >= share.first && g < share.end &&
        (g - share.first) % thread_count() == thread_index())
        to.start[label] = Element::narrow((float)terms.target);
}

template <typename Element, bool OPTIONS, typename Slice, typename Terms>
DEVICE void form_gradient(const Slice &slice, const block_share &share, const granule_row<Element> &to,
                          int32_t label, const Terms &terms, const reference &from, const softcap &cap) {
    const bool aligned = to.phase == slice.row.phase;
    granule granules[Slice::AHEAD];
    for (int32_t g = share.first + thread_index(); g < share.end; g += Slice::AHEAD * thread_count()) {
        read_ahead(slice, share, g, granules);
#pragma unroll
        for (int i = 0; i < Slice::AHEAD; ++i) {
            const int32_t at = g + i * thread_count();
            if (at < share.end)
                form_gradient_of_granule<Element, OPTIONS>(granules[i], first_of_granule(slice.row, at), to,
                                                           aligned, terms, from, cap);
        }
    }
    correct_label(slice, share, to, label, terms);
}

/* The same value everywhere; the logits are not read. */
template <typename Element>
DEVICE void fill_gradient(const granule_row<Element> &to, float value, int rank, int ranks) {
    enum { COUNT = Element::IN_GRANULE };
    float values[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        values[i] = value;
    const block_share share = share_of(granule_count(to), rank, ranks);
    for (int32_t g = share.first + thread_index(); g < share.end; g += thread_count())
        write_gradient<Element>(to, first_of_granule(to, g), true, values);
}

/* The gradient by its terms, or the same value everywhere. */
template <typename Element, bool OPTIONS, typename Slice>
DEVICE void form_or_fill(const Slice &slice, const block_share &share, const granule_row<Element> &to,
                         int32_t label, const row_gradient &gradient, bool untrained, const softcap &cap) {
    const reference from = reference_of<OPTIONS>(gradient.reference, cap);
    if (untrained || gradient.spoiled) {
        fill_gradient<Element>(to, untrained ? 0.0F : NAN, cluster_rank(), cluster_size());
    } else if (gradient.wide) {
        const wide_terms terms = {gradient.factor, gradient.uniform, gradient.target};
        form_gradient<Element, OPTIONS>(slice, share, to, label, terms, from, cap);
    } else {
        const float_terms terms = {(float)gradient.factor, (float)gradient.uniform, (float)gradient.target};
        form_gradient<Element, OPTIONS>(slice, share, to, label, terms, from, cap);
    }
}

/* --- a row --------------------------------------------------------------------------------------------- */

template <typename Element>
DEVICE granule_row<Element> row_at(const void *start, int64_t stride, int64_t row, int64_t vocab) {
    typedef typename Element::bits bits;
    bits *const first = static_cast<bits *>(const_cast<void *>(start)) + row * stride;
    return granule_row<Element>::of(first, (int32_t)vocab);
}

template <typename Element, bool OPTIONS, typename Slice> DEVICE void run_row(const cuda_loss &loss) {
    block_state *const state = reinterpret_cast<block_state *>(shared_memory());
    const int64_t index = cluster_index();
    const int64_t listed = loss.index != NULL ? loss.index[index] : index;
    const row_facts facts = listed >= 0 ? facts_of(loss.rows, listed) : no_facts();
    const granule_row<Element> logits =
        row_at<Element>(loss.logits, loss.logits_stride, index, loss.rows.vocab);
    granule_row<Element> to = logits;
    if (loss.gradient != NULL)
        to = row_at<Element>(loss.gradient, loss.gradient_stride, index, loss.rows.vocab);

    if (!facts.valid || facts.code != VISATB_REPORT_OK) {
        if (loss.gradient != NULL)
            fill_gradient<Element>(to, facts.valid ? NAN : 0.0F, cluster_rank(), cluster_size());
        if (facts.valid && cluster_rank() == 0 && thread_index() == 0)
            loss.outcomes[facts.row] = spoiled_outcome(facts.code);
        return;
    }

    if (cluster_size() > 1)
        cluster_arrive();
    const softcap cap = softcap_of(loss.softcap);
    const int32_t label = (int32_t)facts.label;
    /* Read now: in place, another block may soon write there. */
    const float label_logit = Element::widen(logits.start[label]);
    const block_share share = share_of(granule_count(logits), cluster_rank(), cluster_size());
    const Slice slice = Slice::fetch(logits, share, state);
    partial p = sum_of_thread<Element, OPTIONS>(slice, share, label, cap, loss.label_smoothing > 0);
    p = sum_of_block<OPTIONS>(state, p, cap);
    p = sum_of_cluster<OPTIONS>(state, p, cap);
    loss_softmax softmax;
    bool good = false;
    if (thread_index() == 0) {
        good = finish_softmax(p, label_logit, loss.softcap, &softmax);
        state->gradient = gradient_of(loss, facts, softmax, good);
    }
    block_barrier();
    if (thread_index() == 0 && cluster_rank() == 0)
        write_outcome(loss, facts, softmax, good);
    if (loss.gradient != NULL)
        form_or_fill<Element, OPTIONS>(slice, share, to, label, state->gradient, facts.weight == 0, cap);
}

inline launch_shape shape_of(const cuda_loss &loss, const cuda_loss_plan &plan, void *stream) {
    launch_shape shape = {};
    shape.clusters = loss.logits_rows;
    shape.cluster = plan.cluster;
    shape.threads = plan.threads;
    shape.shared_bytes = plan.shared_bytes;
    shape.shared_limit = plan.shared_limit;
    shape.stream = stream;
    return shape;
}

/* The launch of Path<Element, OPTIONS>::kernel, for the types and options of a call. */
template <template <typename, bool> class Path, typename Element, typename Arguments>
int launch_element(const cuda_loss &loss, const Arguments &arguments, const launch_shape &shape) {
    const bool options = loss.softcap > 0 || loss.label_smoothing > 0;
    return options ? launch(Path<Element, true>::kernel(), shape, arguments)
                   : launch(Path<Element, false>::kernel(), shape, arguments);
}

template <template <typename, bool> class Path, typename Arguments>
int launch_path(const cuda_loss &loss, const Arguments &arguments, const launch_shape &shape) {
    switch (loss.dtype) {
    case VISATB_DTYPE_BFLOAT16: return launch_element<Path, bf16_element>(loss, arguments, shape);
    case VISATB_DTYPE_FLOAT16: return launch_element<Path, half_element>(loss, arguments, shape);
    default: return launch_element<Path, float_element>(loss, arguments, shape);
    }
}

#endif
