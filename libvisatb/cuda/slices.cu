/* The loss of a vocabulary in slices, a block for each row: one kernel tells what the slice has of it, the
 * other makes the loss and the slice's gradient of what all of them told. Each reads the logits once. */
#include "cuda/memory_slice.cuh"

/* The label's place among the words of the slice; below 0 where it is none of them. */
DEVICE int32_t label_in_slice(const cuda_slice &slice, const row_facts &facts) {
    const int64_t label = facts.label - slice.first;
    return label >= 0 && label < slice.width ? (int32_t)label : -1;
}

template <typename Element> DEVICE float logit_of_label(const granule_row<Element> &logits, int32_t label) {
    return label >= 0 ? Element::widen(logits.start[label]) : -INFINITY;
}

/* --- what a slice tells --------------------------------------------------------------------------------- */

DEVICE slice_statistics told_of(const partial &all, float label_logit, bool has_label,
                                const cuda_slice &slice) {
    const double cap = slice.loss.softcap;
    loss_softmax softmax;
    if (finish_softmax(all, label_logit, cap, &softmax))
        return slices_tell(&softmax, has_label, slice.width);
    /* NaN is no -inf. */
    if (all.reference != -FLT_MAX || label_logit != -INFINITY)
        return slices_tell_of_bad(has_label, slice.width);
    /* A cap makes -inf a number; without, its exponentials are 0 by any reference. */
    softmax.largest = -INFINITY;
    softmax.maximum = capped(-INFINITY, cap);
    softmax.others = all.others;
    softmax.target_logit = softmax.maximum;
    softmax.sum = all.sum;
    return slices_tell(&softmax, has_label, slice.width);
}

template <typename Element, bool OPTIONS> KERNEL(PATH_MOST_THREADS, 2) tell_rows(const cuda_slice slice) {
    block_state *const state = reinterpret_cast<block_state *>(shared_memory());
    const cuda_loss &loss = slice.loss;
    const row_facts facts = facts_of(loss.rows, cluster_index());
    if (!facts.valid || facts.code != VISATB_REPORT_OK) {
        if (thread_index() == 0)
            slice.told[facts.row] = slices_tell_of_ignored(slice.width);
        return;
    }
    const softcap cap = softcap_of(loss.softcap);
    const granule_row<Element> logits =
        row_at<Element>(loss.logits, loss.logits_stride, facts.row, slice.width);
    const int32_t label = label_in_slice(slice, facts);
    const block_share share = share_of(granule_count(logits), 0, 1);
    const memory_slice<Element> words = memory_slice<Element>::fetch(logits, share, state);
    partial p = sum_of_thread<Element, OPTIONS>(words, share, label, cap, loss.label_smoothing > 0);
    p = sum_of_block<OPTIONS>(state, p, cap);
    if (thread_index() == 0)
        slice.told[facts.row] = told_of(p, logit_of_label(logits, label), label >= 0, slice);
}

/* --- what comes of all ---------------------------------------------------------------------------------- */

/* Whether the slices that were told of make up the vocabulary, as far as a row knows. */
DEVICE bool are_all_words(const cuda_slice &slice, const slice_statistics *of_row) {
    const cuda_rows &rows = slice.loss.rows;
    return slices_words(of_row, slice.slices, rows.rows) == (double)rows.vocab &&
           slices_with_label(of_row, slice.slices, rows.rows) == 1;
}

/* The softmax of the whole row; false where it has none, or the slices are not the vocabulary. */
DEVICE bool merge(const cuda_slice &slice, float label_logit, row_facts *facts, loss_softmax *softmax) {
    const slice_statistics *const of_row = slice.statistics + facts->row;
    const bool good = slices_merge(of_row, slice.slices, slice.loss.rows.rows, softmax);
    softmax->reference = softmax->largest;
    softmax->target_slope = slope_of((double)label_logit, slice.loss.softcap);
    if (are_all_words(slice, of_row))
        return good;
    facts->code = VISATB_REPORT_LABEL;
    return false;
}

/* By the first thread, before the others may write where the label's logit is. That is read for a gradient
 * alone, of which it is the slope under a cap: without one the logits may be gone. */
template <typename Element>
DEVICE void prepare_row(const cuda_slice &slice, const granule_row<Element> &logits, int32_t label,
                        row_facts facts, block_state *state) {
    loss_softmax softmax = {};
    const float label_logit = slice.loss.gradient != NULL ? logit_of_label(logits, label) : -INFINITY;
    const bool good = merge(slice, label_logit, &facts, &softmax);
    state->gradient = gradient_of(slice.loss, facts, softmax, good);
    if (facts.code == VISATB_REPORT_OK)
        write_outcome(slice.loss, facts, softmax, good);
    else
        slice.loss.outcomes[facts.row] = spoiled_outcome(facts.code);
}

template <typename Element, bool OPTIONS>
DEVICE void form_gradient_of_row(const cuda_slice &slice, const granule_row<Element> &logits,
                                 const granule_row<Element> &to, int32_t label, const row_facts &facts,
                                 block_state *state) {
    const softcap cap = softcap_of(slice.loss.softcap);
    const block_share share = share_of(granule_count(logits), 0, 1);
    const memory_slice<Element> words = memory_slice<Element>::fetch(logits, share, state);
    form_or_fill<Element, OPTIONS>(words, share, to, label, state->gradient, facts.weight == 0, cap);
}

template <typename Element, bool OPTIONS> KERNEL(PATH_MOST_THREADS, 2) merge_rows(const cuda_slice slice) {
    block_state *const state = reinterpret_cast<block_state *>(shared_memory());
    const cuda_loss &loss = slice.loss;
    const row_facts facts = facts_of(loss.rows, cluster_index());
    const granule_row<Element> logits =
        row_at<Element>(loss.logits, loss.logits_stride, facts.row, slice.width);
    granule_row<Element> to = logits;
    if (loss.gradient != NULL)
        to = row_at<Element>(loss.gradient, loss.gradient_stride, facts.row, slice.width);
    if (!facts.valid || facts.code != VISATB_REPORT_OK) {
        if (loss.gradient != NULL)
            fill_gradient<Element>(to, facts.valid ? NAN : 0.0F, 0, 1);
        if (facts.valid && thread_index() == 0)
            loss.outcomes[facts.row] = spoiled_outcome(facts.code);
        return;
    }
    const int32_t label = label_in_slice(slice, facts);
    if (thread_index() == 0)
        prepare_row(slice, logits, label, facts, state);
    block_barrier();
    if (loss.gradient != NULL)
        form_gradient_of_row<Element, OPTIONS>(slice, logits, to, label, facts, state);
}

/* --- the launches --------------------------------------------------------------------------------------- */

template <typename Element, bool OPTIONS> struct tell_path {
    static void (*kernel())(cuda_slice) {
        return tell_rows<Element, OPTIONS>;
    }
};

template <typename Element, bool OPTIONS> struct merge_path {
    static void (*kernel())(cuda_slice) {
        return merge_rows<Element, OPTIONS>;
    }
};

int cuda_launch_slice_statistics(const cuda_slice *slice, const cuda_loss_plan *plan, void *stream) {
    return launch_path<tell_path>(slice->loss, *slice, shape_of(slice->loss, *plan, stream));
}

int cuda_launch_slice_loss(const cuda_slice *slice, const cuda_loss_plan *plan, void *stream) {
    return launch_path<merge_path>(slice->loss, *slice, shape_of(slice->loss, *plan, stream));
}
