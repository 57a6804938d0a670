/* The public entries of the loss of a vocabulary in slices: what a slice tells of its rows, and the loss and
 * the slice's gradient from what all of them told. */
#include "common/error.h"
#include "cuda/cuda.h"
#include "loss/check.h"
#include "loss/run.h"

#include <inttypes.h>

_Static_assert(sizeof(slice_statistics) == VISATB_SLICE_STATISTICS * sizeof(double),
               "the statistics of a row are doubles without anything between");

#define ARGUMENT_ERROR(format, ...) error_set(VISATB_ERROR_ARGUMENT, "%s: " format, function, __VA_ARGS__)

static visatb_status copy_slice(const char *function, const visatb_vocab_slice *slice, int64_t vocab,
                                visatb_vocab_slice *known) {
    if (slice == NULL)
        return error_set(VISATB_ERROR_ARGUMENT, "%s: slice = NULL; expected a pointer", function);
    const visatb_status status =
        loss_copy_args(function, "VISATB_VOCAB_SLICE_INIT", slice, known, sizeof *known);
    if (status != VISATB_OK)
        return status;
    if (known->first < 0 || known->first >= vocab)
        return ARGUMENT_ERROR("first = %" PRId64 "; expected a value in [0, %" PRId64 "), of a word",
                              known->first, vocab);
    if (known->width < 1 || known->width > vocab - known->first)
        return ARGUMENT_ERROR("width = %" PRId64 "; expected a value in [1, %" PRId64
                              "], for first = %" PRId64 " and vocab = %" PRId64,
                              known->width, vocab - known->first, known->first, vocab);
    return VISATB_OK;
}

/* Labels are of the whole vocabulary, the logits of the slice: afterwards, checked->vocab is its width. */
static visatb_status check(const char *function, const visatb_vitw_loss_args *args,
                           const visatb_vocab_slice *slice, visatb_vitw_loss_args *checked,
                           const loss_backend **backend, loss_words *words) {
    visatb_vocab_slice known;
    visatb_status status = loss_check_plan(function, args, checked, backend);
    if (status == VISATB_OK)
        status = copy_slice(function, slice, checked->vocab, &known);
    if (status == VISATB_OK)
        status = loss_check_rest(function, checked);
    if (status != VISATB_OK)
        return status;
    *words = (loss_words){.first = known.first, .all = checked->vocab};
    checked->vocab = known.width;
    loss_resolve_strides(checked);
    return loss_check_logits(function, "width", checked);
}

static visatb_status check_statistics(const char *function, int64_t rows, const double *statistics) {
    if (rows > 0 && statistics == NULL)
        return ARGUMENT_ERROR("statistics = NULL; expected a pointer, because rows = %" PRId64, rows);
    if ((uintptr_t)statistics % sizeof(double) != 0)
        return ARGUMENT_ERROR("statistics = 0x%" PRIxPTR
                              "; expected a multiple of %zu, the bytes of a double",
                              (uintptr_t)statistics, sizeof(double));
    return VISATB_OK;
}

/* Slices that are not the vocabulary would give a loss that looks like one. */
static visatb_status check_row_is_told(const char *function, const visatb_vitw_loss_args *args,
                                       const loss_words *words, int64_t row) {
    const slice_statistics *of_row = words->statistics + row;
    const double told = slices_words(of_row, words->slices, args->rows);
    if (told != (double)words->all)
        return ARGUMENT_ERROR("statistics of %" PRId64 " slices tell of %.17g words in row %" PRId64
                              "; expected vocab = %" PRId64
                              ", in those of slices that make up the vocabulary",
                              words->slices, told, row, words->all);
    if (!loss_row_is_valid(args, row))
        return VISATB_OK;
    const int64_t found = slices_with_label(of_row, words->slices, args->rows);
    if (found != 1)
        return ARGUMENT_ERROR("labels[%" PRId64 "] = %" PRId64 " is a word of %" PRId64 " of the %" PRId64
                              " slices; expected 1, in statistics of slices that make up the vocabulary",
                              row, args->labels[row], found, words->slices);
    return VISATB_OK;
}

static visatb_status check_rows_are_told(const char *function, const visatb_vitw_loss_args *args,
                                         const loss_words *words) {
    visatb_status status = VISATB_OK;
    for (int64_t row = 0; status == VISATB_OK && row < args->rows; ++row)
        status = check_row_is_told(function, args, words, row);
    return status;
}

visatb_status visatb_vitw_slice_statistics(const visatb_vitw_loss_args *args, const visatb_vocab_slice *slice,
                                           double *statistics) {
    static const char function[] = "visatb_vitw_slice_statistics";
    visatb_vitw_loss_args checked;
    const loss_backend *backend = NULL;
    loss_words words;
    visatb_status status = check(function, args, slice, &checked, &backend, &words);
    if (status == VISATB_OK)
        status = check_statistics(function, checked.rows, statistics);
    if (status != VISATB_OK)
        return status;
    slice_statistics *const told = (slice_statistics *)(void *)statistics;
    if (checked.device == VISATB_DEVICE_CUDA)
        return cuda_vitw_slice_statistics(&checked, &words, told);
    loss_plan plan = loss_plan_of(&checked, backend);
    plan.words = words;
    return loss_measure(function, &plan, told);
}

visatb_status visatb_vitw_slice_loss(const visatb_vitw_loss_args *args, const visatb_vocab_slice *slice,
                                     int64_t slices, const double *statistics) {
    static const char function[] = "visatb_vitw_slice_loss";
    visatb_vitw_loss_args checked;
    const loss_backend *backend = NULL;
    loss_words words;
    visatb_status status = check(function, args, slice, &checked, &backend, &words);
    if (status == VISATB_OK)
        status = loss_check_count(function, "slices", slices, 1);
    if (status == VISATB_OK)
        status = check_statistics(function, checked.rows, statistics);
    if (status != VISATB_OK)
        return status;
    words.statistics = (const slice_statistics *)(const void *)statistics;
    words.slices = slices;
    if (checked.device == VISATB_DEVICE_CUDA)
        return cuda_vitw_slice_loss(&checked, &words);
    status = check_rows_are_told(function, &checked, &words);
    if (status != VISATB_OK)
        return status;
    loss_plan plan = loss_plan_of(&checked, backend);
    plan.words = words;
    return loss_run(function, &plan);
}
