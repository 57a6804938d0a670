/*
 * visatb.h - the public interface, and the specification, of libvisatb
 * ====================================================================
 *
 * VisATB (arXiv 2403.04343) balances the tasks of a visual-instruction mix. It measures from validation
 * scores how much each task helps the others (contribution) and how hard it is (difficulty), turns both into
 * one weight per task, and trains with VITW: a cross-entropy whose every token is weighted by its task.
 *
 * The data goes one way, and this header follows it:
 *
 *   1. version, status, errors     visatb_version  visatb_status_string  visatb_last_error
 *   2. files                       visatb_scores_read -> visatb_weights_compute -> visatb_weights_write
 *                                  visatb_weights_read    visatb_evaluation_compute
 *   3. mathematics on arrays       visatb_contribution  visatb_difficulty  visatb_balance_weights
 *                                  visatb_improvement
 *   4. the loss                    visatb_vitw_loss_plan -> visatb_vitw_loss  visatb_scale_gradient
 *                                  visatb_vitw_denominator -> visatb_sum_over_ranks
 *   5. the loss of a linear head   visatb_vitw_linear_loss_plan -> visatb_vitw_linear_loss
 *   6. a vocabulary in slices      visatb_vitw_slice_statistics -> visatb_vitw_slice_loss
 *   7. weights that change         visatb_method_create -> visatb_method_weights -> visatb_method_update
 *
 * Rules that hold for every function
 * ----------------------------------
 * - A function returns a visatb_status; results come only through out-parameters, which are untouched on
 *   failure. (The few that return a string or nothing cannot fail.)
 * - Nothing here exits, aborts or prints. After a failure visatb_last_error() says which argument, which
 *   value, and what would be right.
 * - The caller owns every array. What a handle returns by `const char **` is owned by the handle.
 * - Matrices are row-major. Scores and weights are double; a trainer's task weights are float.
 * - Every function may be called from several threads at once. A handle may be read by several threads, but
 *   must not be destroyed while another uses it. There is no global state but the thread-local
 *   error and what is looked up once: the CPU, the environment, OpenBLAS and cuBLAS (section 5), NCCL
 *   (section 4).
 * - Structs that carry arguments begin with `size`. Start from their initialiser macro (C99, or C++20 with
 *   -Wno-missing-field-initializers), so that code compiled against this version keeps working with a later
 *   library, which adds fields at the end.
 */
#ifndef VISATB_H
#define VISATB_H

#include <stddef.h>
#include <stdint.h>

#define VISATB_VERSION_MAJOR 0
#define VISATB_VERSION_MINOR 1
#define VISATB_VERSION_PATCH 0

#if defined(__GNUC__)
#define VISATB_API __attribute__((visibility("default")))
#else
#define VISATB_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------------
 * 1. Version, status, errors
 * ------------------------------------------------------------------------------------------------------ */

/* What a call came to. The values never change. */
typedef enum visatb_status {
    VISATB_OK = 0,
    VISATB_ERROR_ARGUMENT = 1,    /* an argument is wrong: a programming error of the caller */
    VISATB_ERROR_DATA = 2,        /* a file or the scores in it are wrong or cannot carry weights */
    VISATB_ERROR_MEMORY = 3,      /* the host's memory is exhausted */
    VISATB_ERROR_IO = 4,          /* a file cannot be read or written */
    VISATB_ERROR_UNSUPPORTED = 5, /* this build, this version or this machine does not have it */
    VISATB_ERROR_DEVICE = 6,      /* the GPU, its driver or a library on it failed */
} visatb_status;

/* "0.1.0"; a static string. */
VISATB_API const char *visatb_version(void);

/* What this library was built with, as lines of "key: value"; a static string. */
VISATB_API const char *visatb_build_info(void);

/* A short English name of the status, "unknown status" for any other value; a static string. */
VISATB_API const char *visatb_status_string(visatb_status status);

/* The message of this thread's last failed call; "" before any. Valid until the thread's next failed call. */
VISATB_API const char *visatb_last_error(void);

/* Where in a JSON file that failure lies, as "runs.mini.vqa.em"; "" where it lies in no file. Same lifetime.
 */
VISATB_API const char *visatb_last_error_path(void);

/* ------------------------------------------------------------------------------------------------------
 * 2. Files: scores in, weights out
 *
 * These functions need a library built with JSON (see visatb_build_info); without it they return
 * VISATB_ERROR_UNSUPPORTED. docs/formats.md describes the files. A message about a file reads
 * "scores.json: runs.with_mini.vqa.caption.cider: missing": the file, the JSON path, what is wrong.
 * ------------------------------------------------------------------------------------------------------ */

/* The runs whose validation scores are compared (docs/formats.md). The values never change. */
typedef enum visatb_form {
    VISATB_FORM_OF_FILE = 0, /* what the scores file says */
    VISATB_FORM_FULL = 1,    /* Eq. 3 and 6: mini, and unit + mini */
    VISATB_FORM_SIMPLE = 2,  /* Eq. 10 and 11: base, unit alone, its mini subset alone */
    VISATB_FORM_PRECISE = 3, /* Eq. 3 for contribution, Eq. 12 for difficulty */
} visatb_form;

/* Validation scores: a checked scores.json. */
typedef struct visatb_scores visatb_scores;

/* One weight per task, with everything it was made from: a weights.json. */
typedef struct visatb_weights visatb_weights;

/* A comparison of methods by Eq. 9. */
typedef struct visatb_evaluation visatb_evaluation;

/* Reads a scores file.
 *   path    the file
 *   scores  out: the scores; destroy with visatb_scores_destroy
 * Errors: IO (cannot be read), DATA (what the file says is wrong). Scores that are missing for the form in
 * use are found by visatb_weights_compute, which knows the form. */
VISATB_API visatb_status visatb_scores_read(const char *path, visatb_scores **scores);

/* The same from memory.
 *   text    length bytes of UTF-8 JSON; need not end in NUL, is not kept
 *   name    how messages call it, for example "scores.json" */
VISATB_API visatb_status visatb_scores_parse(const char *text, size_t length, const char *name,
                                             visatb_scores **scores);

/* Frees the scores; NULL is fine. */
VISATB_API void visatb_scores_destroy(visatb_scores *scores);

/* What wins over the scores file. Start from VISATB_WEIGHTS_OPTIONS_INIT. */
typedef struct visatb_weights_options {
    size_t size;
    visatb_form form;
    int32_t allow_negative_denominator; /* nonzero: let a task that its own training made worse through */
    const double *temperature;          /* NULL: the file's; 0: automatic; else T > 0 */
    const double *alphas;               /* NULL: the file's; else [3]: out, in, difficulty */
    const char *scores_sha256; /* NULL: hash the JSON text; else 64 lower-case hex digits to record, */
                               /* for scores that were converted from another file */
} visatb_weights_options;

#define VISATB_WEIGHTS_OPTIONS_INIT                                                                          \
    { .size = sizeof(visatb_weights_options) }

/* Computes the weights (Eq. 3 to 8, 10 to 12).
 *   options  NULL: all from the file
 *   weights  out; destroy with visatb_weights_destroy
 * Errors: ARGUMENT, DATA (a score missing for the form, a denominator that is zero or has the wrong sign, a
 * score <= 0 where difficulty divides, no temperature that fits). Cost: O(units * metrics). */
VISATB_API visatb_status visatb_weights_compute(const visatb_scores *scores,
                                                const visatb_weights_options *options,
                                                visatb_weights **weights);

/* Frees the weights and every string taken from them; NULL is fine. */
VISATB_API void visatb_weights_destroy(visatb_weights *weights);

/* The number of tasks, fixed-weight ones included. */
VISATB_API visatb_status visatb_weights_count(const visatb_weights *weights, size_t *tasks);

/* The name and weight of task `task` in [0, count), in the order of the file. Either out may be NULL. */
VISATB_API visatb_status visatb_weights_task(const visatb_weights *weights, size_t task, const char **name,
                                             double *weight);

/* The number of warnings: things that are allowed but weaken the result. */
VISATB_API visatb_status visatb_weights_warning_count(const visatb_weights *weights, size_t *warnings);

/* Warning `warning` in [0, count): a code such as "negative_contribution", the JSON path, the sentence. Each
 * out may be NULL. */
VISATB_API visatb_status visatb_weights_warning(const visatb_weights *weights, size_t warning,
                                                const char **code, const char **path, const char **message);

/* The text of weights.json, NUL-terminated; length (may be NULL) excludes the NUL. */
VISATB_API visatb_status visatb_weights_json(const visatb_weights *weights, const char **text,
                                             size_t *length);

/* Writes weights.json. The file appears whole or not at all: it is written beside the path and renamed. */
VISATB_API visatb_status visatb_weights_write(const visatb_weights *weights, const char *path);

/* Reads a weights file for a trainer, by name, in the trainer's own order of tasks.
 *   tasks    how many
 *   names    [tasks]; each must be in the file; the file may hold more
 *   weights  out [tasks]: names[i]'s weight, for visatb_vitw_loss
 * Errors: IO, DATA (a bad file, a name that is not in it). */
VISATB_API visatb_status visatb_weights_read(const char *path, size_t tasks, const char *const *names,
                                             float *weights);

/* The same from memory; text, length and name as in visatb_scores_parse. */
VISATB_API visatb_status visatb_weights_parse(const char *text, size_t length, const char *name, size_t tasks,
                                              const char *const *names, float *weights);

/* Compares methods from a results.json (Eq. 9): dI, dE and dI_zero in percent.
 *   text, length, name   as in visatb_scores_parse
 *   baseline             NULL: the file's
 *   evaluation           out; destroy with visatb_evaluation_destroy
 * Errors: DATA (also a baseline score <= 0). */
VISATB_API visatb_status visatb_evaluation_compute(const char *text, size_t length, const char *name,
                                                   const char *baseline, visatb_evaluation **evaluation);

/* The comparison as JSON text, NUL-terminated; length (may be NULL) excludes the NUL. */
VISATB_API visatb_status visatb_evaluation_json(const visatb_evaluation *evaluation, const char **text,
                                                size_t *length);

/* Frees the evaluation; NULL is fine. */
VISATB_API void visatb_evaluation_destroy(visatb_evaluation *evaluation);

/* ------------------------------------------------------------------------------------------------------
 * 3. The mathematics on plain arrays
 *
 * A *unit* is what is weighted: a task, or a group of tasks. Paper: N units, V[j](run) the score of j.
 * ------------------------------------------------------------------------------------------------------ */

/* Which metric belongs to which task, and which task to which unit. VISATB_LAYOUT(n) is n units of one task
 * with one higher-is-better metric each; fill the rest for groups or several metrics. */
typedef struct visatb_layout {
    size_t size;
    size_t units;                   /* N >= 2 */
    size_t tasks;                   /* 0: as many as units */
    size_t metrics;                 /* 0: as many as tasks */
    const size_t *task_unit;        /* [tasks], NULL: task t is unit t; every unit needs a task */
    const size_t *metric_task;      /* [metrics], NULL: metric m is task m; every task needs a metric */
    const uint8_t *lower_is_better; /* [metrics], NULL: none is */
} visatb_layout;

#define VISATB_LAYOUT(n)                                                                                     \
    { .size = sizeof(visatb_layout), .units = (n) }

/* Lets a denominator of the wrong sign through visatb_contribution. */
#define VISATB_ALLOW_NEGATIVE_DENOMINATOR 1U

/* Contribution (Eq. 3 with baseline = V(mini), trained = V(i+mini); Eq. 10 with V(base), V(i)).
 *   trained       [units, metrics]: trained[i, m] is metric m after training on unit i
 *   baseline      [metrics]
 *   flags         0 or VISATB_ALLOW_NEGATIVE_DENOMINATOR
 *   contribution  out [units, units]: C[i -> j], diagonal 1; metrics are averaged within a task, then
 *                 tasks within a unit, after each was normalised
 * Errors: ARGUMENT (NULL, NaN, infinity, a layout that does not fit), DATA (a denominator that is zero, below
 * 1e-9 of its larger term, or of the wrong sign). */
VISATB_API visatb_status visatb_contribution(const visatb_layout *layout, const double *trained,
                                             const double *baseline, uint32_t flags, double *contribution);

/* Outward and inward contribution (Eq. 4 and 5): means over the other units.
 *   contribution  [units, units], units >= 2
 *   outward       out [units]: mean over j != i of C[i -> j]
 *   inward        out [units]: mean over j != i of C[j -> i] */
VISATB_API visatb_status visatb_contribution_means(size_t units, const double *contribution, double *outward,
                                                   double *inward);

/* Difficulty (Eq. 6 with low = V(mini), high = V(i+mini); Eq. 11 and 12 with V(mini_i), V(i)): 1 - low/high,
 * and 1 - high/low where lower is better.
 *   low, high   [metrics]: each metric after little and after much training on its own unit; the one that
 *               divides must be > 0
 *   difficulty  out [units]
 * Errors: ARGUMENT, DATA (a score <= 0). */
VISATB_API visatb_status visatb_difficulty(const visatb_layout *layout, const double *low, const double *high,
                                           double *difficulty);

/* N softmax(values / T) (Eq. 4, 5, 7): weights of 0 or more that sum to N.
 *   values       [units], finite
 *   temperature  T > 0, finite
 *   weights      out [units]; may be `values` */
VISATB_API visatb_status visatb_softmax_weights(size_t units, const double *values, double temperature,
                                                double *weights);

/* How the three weightings are combined. Start from VISATB_BALANCE_OPTIONS_INIT, the paper's values. */
typedef struct visatb_balance_options {
    size_t size;
    double alpha_out; /* the alphas are >= 0 and sum to 1 within 0.02; they are scaled to exactly 1 */
    double alpha_in;
    double alpha_difficulty;
    double temperature; /* 0: automatic, the lowest of 4, 2, 1, 0.5, 0.25, 0.125 that keeps every weight */
                        /* within the range */
    double range_low;   /* range_low <= 1 <= range_high */
    double range_high;
} visatb_balance_options;

#define VISATB_BALANCE_OPTIONS_INIT                                                                          \
    {                                                                                                        \
        .size = sizeof(visatb_balance_options), .alpha_out = 0.25, .alpha_in = 0.25,                         \
        .alpha_difficulty = 0.5, .range_low = 0.5, .range_high = 2.0                                         \
    }

/* The VisATB weights (Eq. 8): a_out N softmax(C_out/T) + a_in N softmax(-C_in/T) + a_D N softmax(D/T).
 *   outward, inward, difficulty   [units], finite, units >= 2
 *   options                       NULL: VISATB_BALANCE_OPTIONS_INIT
 *   weights                       out [units], summing to N
 *   components                    out [3, units] or NULL: the out, in and difficulty weightings
 *   temperature                   out or NULL: the T that was used
 * Errors: ARGUMENT, DATA (no temperature of the grid fits). */
VISATB_API visatb_status visatb_balance_weights(size_t units, const double *outward, const double *inward,
                                                const double *difficulty,
                                                const visatb_balance_options *options, double *weights,
                                                double *components, double *temperature);

/* Improvement of one task over a baseline (Eq. 9, I_i): the mean over its metrics of (M_e - M_b) / M_b, with
 * the sign turned where lower is better. A fraction, not percent.
 *   scores, baseline   [metrics], metrics >= 1; every baseline > 0
 *   lower_is_better    [metrics] or NULL: none is
 * Errors: ARGUMENT, DATA (a baseline <= 0). */
VISATB_API visatb_status visatb_improvement(size_t metrics, const double *scores, const double *baseline,
                                            const uint8_t *lower_is_better, double *improvement);

/* dI = 100 mean I_i and dE = 100 mean max(0, -I_i), in percent, over tasks >= 1. Either out may be NULL. */
VISATB_API visatb_status visatb_improvement_summary(size_t tasks, const double *improvements,
                                                    double *delta_improvement, double *delta_error);

/* ------------------------------------------------------------------------------------------------------
 * 4. The VITW loss
 *
 * Eq. 2: L = sum_t lambda[task(t)] nll(t) / D over the valid tokens t (label != ignore_index), where
 * D = sum_t lambda[task(t)] runs over the valid tokens of the *whole optimiser step*: with gradient
 * accumulation or several ranks, count it first (visatb_vitw_denominator, visatb_sum_over_ranks)
 * and pass it as `denominator`.
 * ------------------------------------------------------------------------------------------------------ */

/* The type of logits and gradient. 0 is none, so that a forgotten field is an error. */
typedef enum visatb_dtype {
    VISATB_DTYPE_FLOAT32 = 1,
    VISATB_DTYPE_BFLOAT16 = 2,
    VISATB_DTYPE_FLOAT16 = 3,
    VISATB_DTYPE_FLOAT64 = 4, /* CPU only: for checks by finite differences */
} visatb_dtype;

typedef enum visatb_reduction {
    VISATB_REDUCTION_MEAN = 0, /* divide by the denominator */
    VISATB_REDUCTION_SUM = 1,  /* do not divide */
} visatb_reduction;

/* What was wrong inside the data, where that is no error of the call. */
typedef enum visatb_report_code {
    VISATB_REPORT_OK = 0,
    VISATB_REPORT_LOGITS = 1, /* a valid row holds NaN or +inf, or nothing but -inf */
    /* CUDA only, where the CPU refuses the call: */
    VISATB_REPORT_LABEL = 2,       /* neither ignore_index nor in [0, vocab) */
    VISATB_REPORT_TASK_ID = 3,     /* not in [0, tasks) */
    VISATB_REPORT_TASK_WEIGHT = 4, /* of the row's task: negative or not finite */
    VISATB_REPORT_DENOMINATOR = 5, /* negative or not finite, or 0 though the row has a weight */
    VISATB_REPORT_VALID_ROWS = 6,  /* the first valid row beyond max_valid_rows */
} visatb_report_code;

typedef struct visatb_report {
    int32_t code;          /* a visatb_report_code */
    int32_t reserved;      /* 0 */
    int64_t first_bad_row; /* the lowest row that is bad, which is what `code` says; -1 without one */
} visatb_report;

/* The ways in which a CPU computes. All keep the promised accuracy; their last bits differ from each other.
 * Within one, the result has the same bits for any number of threads, on every run. fp64 is always computed
 * by the portable one. */
typedef enum visatb_cpu_path {
    VISATB_CPU_AUTO = 0,        /* the last of those below that this CPU can run, or what the environment */
                                /* variable VISATB_CPU names: portable, avx2, avx512 or avx512_bf16 */
    VISATB_CPU_PORTABLE = 1,    /* plain C in double: the most accurate, the slowest */
    VISATB_CPU_AVX2 = 2,        /* with FMA and F16C */
    VISATB_CPU_AVX512 = 3,      /* F, BW, DQ and VL */
    VISATB_CPU_AVX512_BF16 = 4, /* the same; rounds to bf16 by its instruction, for which */
                                /* what is below 1.2e-38 is 0 */
} visatb_cpu_path;

/* "portable", "avx2", "avx512", "avx512_bf16"; "auto" for VISATB_CPU_AUTO, "unknown" for any other value. */
VISATB_API const char *visatb_cpu_path_name(visatb_cpu_path path);

/* The path that a call with cpu_path = wanted takes.
 * Errors: ARGUMENT (no such path), UNSUPPORTED (this CPU, or this build of the library, does not have it). */
VISATB_API visatb_status visatb_cpu_path_taken(visatb_cpu_path wanted, visatb_cpu_path *taken);

/* A pool of threads of the caller's: runs body(context) on up to `threads` threads at once, of which the
 * calling one is the first, and returns when all of them have. flags is 0. GNU OpenMP's GOMP_parallel is such
 * a function: with it a program that has an OpenMP pool is joined by no threads beside that pool. */
typedef void visatb_team(void (*body)(void *context), void *context, unsigned threads, unsigned flags);

/* Where the arrays are and the work is done. */
typedef enum visatb_device {
    VISATB_DEVICE_CPU = 0,
    VISATB_DEVICE_CUDA = 1, /* an NVIDIA GPU of compute capability 8.0 or higher */
} visatb_device;

/* The ways in which a GPU computes. All keep the promised accuracy; their last bits differ from each other.
 * Within one, the result has the same bits on every run, for rows that begin alike within 16 bytes. */
typedef enum visatb_cuda_path {
    VISATB_CUDA_AUTO = 0,     /* the first of those below that the GPU has room for */
    VISATB_CUDA_ONE_READ = 1, /* a row waits in the shared memory of up to 8 multiprocessors, which read it */
                              /* once; compute capability 9.0 and higher, rows of up to about 1.8 MB */
    VISATB_CUDA_TWO_READ =
        2, /* a row is read twice, the second time from the L2 cache where it stays there */
} visatb_cuda_path;

/* The arguments of visatb_vitw_loss. Start from VISATB_VITW_LOSS_ARGS_INIT. "NULL: ..." marks what is
 * optional. Logits and gradient, and on a GPU everything, are aligned to their element.
 *
 * Every pointer is to host memory, and with VISATB_DEVICE_CUDA to memory that the GPU can reach: its own, or
 * pinned. But denominator and grad_scale may be in any memory of the host, too, and are then read during the
 * call; those in the GPU's are read when the work is done. */
typedef struct visatb_vitw_loss_args {
    size_t size;

    int64_t rows;  /* tokens, >= 0; with 0 the arrays [rows] may be NULL */
    int64_t vocab; /* >= 1 */
    int64_t tasks; /* >= 1 */

    const void *logits;    /* [rows, vocab] of dtype; -inf is allowed */
    int64_t logits_stride; /* elements from row to row, >= vocab; 0: vocab */
    visatb_dtype dtype;
    visatb_reduction reduction;

    const int64_t *labels;     /* [rows]: ignore_index or in [0, vocab) */
    const int32_t *task_ids;   /* [rows]: in [0, tasks); anything where the label is ignore_index */
    const float *task_weights; /* [tasks]: lambda, finite and >= 0; 0 counts a task but does not train it */
    int64_t ignore_index;      /* -100 */

    const double *denominator; /* NULL: computed from these rows; else D > 0 of the whole step, or 0 if no */
                               /* row has a weight. Not with VISATB_REDUCTION_SUM */
    const float *grad_scale;   /* NULL: 1; else finite: multiplies the gradient before it is rounded */

    double label_smoothing; /* e in [0, 1]; 0: off */
    double softcap;         /* c > 0, finite; 0: off */
    double z_loss;          /* zeta >= 0, finite; 0: off */

    int32_t threads; /* at most so many work on it, the caller's included; 0: one for every CPU that */
                     /* the process may run on */
    visatb_cpu_path cpu_path; /* VISATB_CPU_AUTO, or a path that must be taken */
    visatb_team *team;        /* NULL: threads of our own, which live as long as the call */

    double *loss;            /* out: L */
    double *numerator;       /* out, NULL: no: sum lambda l, where l is the nll and what the options add */
    double *denominator_out; /* out, NULL: no: D, as given or computed */
    void *gradient;          /* out, NULL: loss only: [rows, vocab] of dtype, grad_scale * dL/dlogits; */
                             /* `logits` itself (same stride) for in place, else not overlapping */
    int64_t gradient_stride; /* elements from row to row, >= vocab; 0: vocab */
    float *row_nll;          /* out, NULL: no: [rows], 0 for ignored rows */
    float *row_lse;          /* out, NULL: no: [rows] log-sum-exp, 0 for ignored rows */
    double *task_nll;        /* out, NULL: no: [tasks] sums of nll, not weighted */
    int64_t *task_tokens;    /* out, NULL: no: [tasks] numbers of valid tokens */
    visatb_report *report;   /* out, NULL: no */

    visatb_device device;
    visatb_cuda_path cuda_path; /* VISATB_CUDA_AUTO, or a path that must be taken. This and what follows: */
                                /* CUDA only */
    void *workspace;            /* what visatb_vitw_loss_plan asks for, of any alignment; its content means */
    size_t workspace_bytes;     /* nothing before and after; overlaps nothing */
    void *stream;               /* a cudaStream_t of the arrays' GPU; NULL: its default stream */
} visatb_vitw_loss_args;

#define VISATB_VITW_LOSS_ARGS_INIT                                                                           \
    { .size = sizeof(visatb_vitw_loss_args), .ignore_index = -100 }

/* How a call will be done. Set `size`, as VISATB_LOSS_PLAN_INIT does. */
typedef struct visatb_loss_plan {
    size_t size;
    size_t workspace_bytes;     /* what the call needs from its caller; 0 on the CPU */
    visatb_cpu_path cpu_path;   /* that is taken; VISATB_CPU_AUTO on a GPU */
    visatb_cuda_path cuda_path; /* that is taken; VISATB_CUDA_AUTO on the CPU */
    int32_t cluster;            /* thread blocks that share a row; 0 on the CPU */
    int32_t threads;            /* of each of them; 0 on the CPU */
} visatb_loss_plan;

#define VISATB_LOSS_PLAN_INIT                                                                                \
    { .size = sizeof(visatb_loss_plan) }

/* The plan of a call with these shapes and choices, on the CPU or the current CUDA device. No array is read,
 * and each may be NULL, workspace and loss too: the workspace depends on rows alone, the path on vocab and
 * dtype.
 * Errors: ARGUMENT, UNSUPPORTED (the path; no CUDA in this build, no GPU that it can use: the message says
 * why), DEVICE. */
VISATB_API visatb_status visatb_vitw_loss_plan(const visatb_vitw_loss_args *args, visatb_loss_plan *plan);

/* The VITW loss (Eq. 2), forward and backward at once, with the usual options:
 *
 *   z = c tanh(x / c)                                              x the logits, c softcap; z = x without
 *   l = (1 - e) nll + (e / vocab) sum_j (lse - z_j) + zeta lse^2   nll = lse - z[label]
 *   L = sum_t lambda[task(t)] l(t) / D                             e label_smoothing, zeta z_loss
 *
 * What is reported by row and by task is the plain nll of z. With label smoothing, a logit of -inf makes the
 * loss infinite, as the formula has it; softcap makes it -c.
 *
 * Ignored rows and rows of weight 0 get an exact zero gradient, even over NaN logits; the latter still count
 * in row_nll, task_nll and task_tokens. Without any weighted row the loss is 0. A valid row with bad logits
 * is reported; if it has a weight, the loss and that row's gradient are NaN.
 *
 * The result has the same bits on every run and for any number of threads (if all of them treat subnormal
 * numbers alike, as they do unless somebody sets them otherwise). Sums over rows are fp64; within a row up to
 * 1024 exponentials are added up in fp32 first, but on the portable path; on a GPU all that a thread has, a
 * few hundred for usual vocabularies. Entries of the gradient below 1e-7 of lambda * grad_scale / D may lose
 * digits, down to 0.
 *
 * On the CPU, in place, a failed call leaves the logits as they were: every argument, and every label, task
 * id and weight, is checked, and all memory taken, before anything is written. It takes 32 bytes for each
 * row, and for each thread one or two rows of fp32 where the gradient is not fp32 or the logits are capped.
 *
 * On a GPU, which is that of `loss` and need not be the current one, the call puts its work into the stream
 * and returns; the results are there when the stream has done it. threads, cpu_path and team mean nothing. It
 * neither waits for the GPU nor takes memory of it, and can be captured into a CUDA graph, whose replays read
 * all arrays anew; a call like it must have been made before, outside of a capture, since the driver loads a
 * kernel when it is first used. What lies in the GPU's memory cannot be checked beforehand: a row with a bad
 * label, task id or task weight makes the loss NaN, its own gradient NaN, and is reported; it has no part in
 * a denominator that is computed. With a bad denominator the gradient of every row that has a weight is NaN,
 * with a grad_scale that is not finite too. Nothing is read or written out of bounds.
 *
 * Errors: ARGUMENT (which argument, where in it, which value), UNSUPPORTED (cpu_path, cuda_path, device),
 * MEMORY, DEVICE. */
VISATB_API visatb_status visatb_vitw_loss(const visatb_vitw_loss_args *args);

/* On a GPU: gradient *= *factor / *expected, rounded once, or nothing at all where the two are equal: for a
 * backward whose upstream factor, known to the GPU alone, nearly always is the grad_scale of the forward.
 *   gradient  [rows, width] of dtype (not fp64), `stride` elements from row to row (0: width), in place
 *   factor    in the GPU's memory
 *   expected  in the GPU's memory; NULL: 1
 *   stream    a cudaStream_t of the gradient's GPU; NULL: its default stream
 * Errors: ARGUMENT, UNSUPPORTED (as VISATB_DEVICE_CUDA), DEVICE. */
VISATB_API visatb_status visatb_scale_gradient(void *gradient, int64_t rows, int64_t width, int64_t stride,
                                               visatb_dtype dtype, const float *factor, const float *expected,
                                               void *stream);

/* D of these rows and their valid tokens by task, without logits: for the D of a step of several
 * micro-batches or ranks, which is known before its first loss.
 *   args        read: rows, vocab, tasks, labels, task_ids, ignore_index, device, stream, and with
 *               denominator_out task_weights; written: denominator_out and task_tokens, of which one may be
 *               NULL. All mean the same as in visatb_vitw_loss; nothing else is looked at, but for size
 *   accumulate  0: the outputs are written; 1: added to
 * D has the same bits as the one that visatb_vitw_loss computes from these rows on this device.
 *
 * On the CPU, labels, task ids and weights are checked first, and nothing is written by a call that fails. On
 * a GPU, which is that of the outputs, the call puts its work into the stream as visatb_vitw_loss does, takes
 * no workspace, and can be captured; a row with a bad label, task id or task weight has no part in D, and it
 * is the loss of those rows that reports it.
 *
 * Errors: ARGUMENT, UNSUPPORTED (device), DEVICE. */
VISATB_API visatb_status visatb_vitw_denominator(const visatb_vitw_loss_args *args, int32_t accumulate);

/* Sums over ranks, in place: afterwards every rank has the sum of what each of them had. All ranks make the
 * same call. The sums of doubles are formed in an order that is NCCL's.
 *   values, tokens  [values_count], [tokens_count] in the GPU's memory, aligned to their element, not
 *                   overlapping; NULL where the count is 0. For D, or task_nll, and for task_tokens
 *   comm            an ncclComm_t of that GPU; NULL: there is one rank, and nothing to do, in any build and
 *                   wherever the arrays are
 *   stream          a cudaStream_t of that GPU; NULL: its default stream
 * The call puts its work into the stream and returns; it does not wait for the GPU. It can be captured into a
 * CUDA graph, if NCCL can capture with this communicator and a call with it has been made before, outside of
 * a capture, for NCCL connects the ranks at their first call. Whoever uses comm from another thread, or has
 * work of it in other streams, keeps NCCL's rules.
 *
 * NCCL (2.9 or newer) is looked for at the first call with a communicator, and must be the library that made
 * it, for another one can do nothing with it: the one that VISATB_NCCL names (a path), or else the
 * libnccl.so.2 that the process has loaded, and no other. A program that was linked with a static NCCL cannot
 * use this function.
 *
 * Errors: ARGUMENT, UNSUPPORTED (no such NCCL is loaded, or one too old: the message says which; a build
 * without CUDA or NCCL), DEVICE (what NCCL says). After DEVICE neither array is of use: values are summed
 * before tokens, so their sum may be under way or done already, and to call again would sum them twice. */
VISATB_API visatb_status visatb_sum_over_ranks(double *values, int64_t values_count, int64_t *tokens,
                                               int64_t tokens_count, void *comm, void *stream);

/* ------------------------------------------------------------------------------------------------------
 * 5. The VITW loss of a linear head
 *
 * logits = hidden weight^T + bias, and their loss, without ever holding all logits: the valid rows are
 * gathered, and pass in chunks that fit into a workspace. Ignored rows (prompt, images, padding) cost
 * nothing; on a GPU, if max_valid_rows says how many there are.
 *
 * The products are those of an OpenBLAS, where one is found at the first call and uses this CPU as well as
 * our own do; else our own, which are as fast with AVX2 or AVX-512, and a few times slower without. The
 * environment variable VISATB_BLAS names the library (a path), or `none`; without it, it is what
 * VISATB_BLAS_OFFER names, if that can be used, or else the system's. Builds with 64-bit integers, with
 * OpenMP, for one thread, or for fewer than 64 cannot be used. visatb_vitw_linear_loss_plan says which
 * products are taken, and why.
 *
 * On a GPU the products are those of cuBLAS, which is opened when a context is created: the library that
 * VISATB_CUBLAS names (a path), or else one that the process has loaded already, as PyTorch has, or else what
 * VISATB_CUBLAS_OFFER names, if that can be used, or else the system's libcublas.so.13 or .12.
 * ------------------------------------------------------------------------------------------------------ */

/* What calls on a GPU keep between them: a handle of cuBLAS. */
typedef struct visatb_context visatb_context;

/* A context for the current CUDA device. Creating it may wait for the GPU and take memory of it, so it is not
 * for a stream that is being captured.
 *   context  out: a handle for visatb_context_destroy. It serves one call at a time.
 * Errors: ARGUMENT, UNSUPPORTED (as VISATB_DEVICE_CUDA; no cuBLAS: the message says what was tried), MEMORY,
 * DEVICE. */
VISATB_API visatb_status visatb_context_create(visatb_context **context);

/* NULL is fine. Work that is under way must be done. */
VISATB_API void visatb_context_destroy(visatb_context *context);

/* The arguments of visatb_vitw_linear_loss. Start from VISATB_VITW_LINEAR_LOSS_ARGS_INIT. Fields that
 * visatb_vitw_loss_args has too mean the same. */
typedef struct visatb_vitw_linear_loss_args {
    size_t size;

    int64_t rows;        /* tokens, >= 0 */
    int64_t hidden_size; /* in [1, 2^29] */
    int64_t vocab;       /* in [1, 2^29] */
    int64_t tasks;       /* >= 1 */

    const void *hidden;    /* [rows, hidden_size] of dtype */
    int64_t hidden_stride; /* elements from row to row, >= hidden_size; 0: hidden_size */
    const void *weight;    /* [vocab, hidden_size] of dtype: the head */
    int64_t weight_stride; /* elements from row to row, >= hidden_size, <= 2^29; 0: hidden_size */
    const void *bias;      /* [vocab] of dtype, or NULL: none */
    visatb_dtype dtype;    /* the logits are fp32 for all but fp64, for which they are fp64; CUDA: dtype */
    visatb_reduction reduction;

    const int64_t *labels;
    const int32_t *task_ids;
    const float *task_weights;
    int64_t ignore_index;
    const double *denominator;
    const float *grad_scale;
    double label_smoothing;
    double softcap;
    double z_loss;
    int32_t threads;
    visatb_cpu_path cpu_path;
    visatb_team *team;

    int64_t max_valid_rows; /* 0: rows; else at most so many labels differ from ignore_index, and the */
                            /* workspace has no room for more */
    size_t chunk_bytes;     /* CPU: the most that a workspace may take; 0: 256 MiB. The least that will do */
                            /* depends on the product */
                            /* CUDA: the most that the logits of a chunk may take; 0: 1 GiB */
    void *workspace;        /* what visatb_vitw_linear_loss_plan asks for, of any alignment; its content */
    size_t workspace_bytes; /* means nothing before and after; overlaps nothing */

    double *loss; /* out */
    double *numerator;
    double *denominator_out;
    void *hidden_gradient;          /* out, NULL: no: [rows, hidden_size] of dtype; overlaps nothing */
    int64_t hidden_gradient_stride; /* elements from row to row, >= hidden_size; 0: hidden_size */
    void *weight_gradient; /* out, NULL: a frozen head: [vocab, hidden_size], dense; fp32 for every */
    /* dtype but fp64, for which it is fp64; CUDA: head_gradient_dtype; overlaps nothing */
    void *bias_gradient; /* out, NULL: no: [vocab], of weight_gradient's type; overlaps nothing; also */
                         /* where there is no bias */
    int32_t accumulate;  /* 0: weight_gradient and bias_gradient are written; 1: added to */
    int32_t reserved;    /* 0 */
    float *row_nll;
    float *row_lse;
    double *task_nll;
    int64_t *task_tokens;
    visatb_report *report;

    visatb_device device;
    visatb_cuda_path cuda_path;       /* this and what follows: CUDA only */
    visatb_dtype head_gradient_dtype; /* of the head's gradients: 0 for fp32, or dtype, rounded to once */
    visatb_context *context;          /* required: that of the arrays' GPU, where the work is done */
    void *stream;
} visatb_vitw_linear_loss_args;

#define VISATB_VITW_LINEAR_LOSS_ARGS_INIT                                                                    \
    { .size = sizeof(visatb_vitw_linear_loss_args), .ignore_index = -100 }

/* How a call will be done. Set `size`, as VISATB_LINEAR_PLAN_INIT does. */
typedef struct visatb_linear_plan {
    size_t size;
    size_t workspace_bytes;     /* what the call needs; on the CPU <= chunk_bytes */
    int64_t chunk_rows;         /* valid rows that pass at a time */
    int64_t chunks;             /* how often, if max_valid_rows rows are valid */
    const char *product;        /* what multiplies, such as "OpenBLAS 0.3.30", "plain avx2 (no BLAS found)" */
                                /* or "cuBLAS 13.1.0"; a static string, or the context's */
    visatb_cpu_path cpu_path;   /* what the loss itself takes; VISATB_CPU_AUTO on a GPU */
    visatb_cuda_path cuda_path; /* the same; VISATB_CUDA_AUTO on the CPU */
} visatb_linear_plan;

#define VISATB_LINEAR_PLAN_INIT                                                                              \
    { .size = sizeof(visatb_linear_plan) }

/* The plan of a call with these shapes, options, threads, chunk_bytes and max_valid_rows. No array is read,
 * and each may be NULL, workspace and loss too, on a GPU also the context (`product` is "cuBLAS" then). On a
 * GPU, workspace_bytes is more than chunk_bytes by the gathered rows, by 32 MiB for cuBLAS, and by an fp32
 * gradient of the head where that is wanted in another type and there are several chunks.
 * Errors: ARGUMENT (also a chunk_bytes too small for a single row: the message says how many it takes),
 * UNSUPPORTED (cpu_path; a library named by VISATB_BLAS that cannot be used; as visatb_vitw_loss_plan on a
 * GPU), DEVICE. */
VISATB_API visatb_status visatb_vitw_linear_loss_plan(const visatb_vitw_linear_loss_args *args,
                                                      visatb_linear_plan *plan);

/* The VITW loss of hidden weight^T + bias, forward and backward at once; the rules for rows are those of
 * visatb_vitw_loss. Logits, their gradient and the sums over rows are fp32 (fp64 for fp64), and rounded to
 * dtype once, in hidden_gradient.
 *
 * The result has the same bits on every run with the same product, cpu_path, chunk_bytes and max_valid_rows,
 * for any number of threads. No memory is taken but what threads and OpenBLAS take for themselves. OpenBLAS
 * is called from the threads of the call, with its own, which are one setting for the process, held to one
 * meanwhile.
 *
 * On a GPU the logits are of `dtype`, as those of a head computed by PyTorch are. The same sizes reach cuBLAS
 * whatever the labels are: rows are gathered up to max_valid_rows, and the rest of those are zeros; so a CUDA
 * graph can be replayed with other labels. With more valid rows than that, the loss and the gradients are
 * NaN.
 *
 * Errors: as visatb_vitw_loss, without MEMORY; ARGUMENT also for outputs that overlap something by their
 * extent, for a workspace smaller than the plan's, and for more valid rows than max_valid_rows; UNSUPPORTED
 * as the plan. Nothing is written then. */
VISATB_API visatb_status visatb_vitw_linear_loss(const visatb_vitw_linear_loss_args *args);

/* ------------------------------------------------------------------------------------------------------
 * 6. The VITW loss of a vocabulary in slices
 *
 * Where a head is split over several processes (tensor parallelism), each of them has the logits of its own
 * words, for all rows. The loss takes two calls, and between them one exchange of a few numbers a row, which
 * is the caller's: nothing here communicates.
 *
 *   visatb_vitw_slice_statistics   what this slice tells of its rows
 *   the caller                     gathers what all slices tell, in one order for all of them
 *   visatb_vitw_slice_loss         the loss of the whole vocabulary, and the gradient of this slice
 *
 * Every slice is called with the same labels, task ids, task weights and options, and then has the same loss
 * and the same statistics by row and by task, bit for bit (where the C library's exp and log are the same).
 * What is wrong with these, all of them find. What a process has for itself (its logits, its slice, pointers,
 * its machine) it may be alone with, and must tell the others by other means, or they wait for it.
 * ------------------------------------------------------------------------------------------------------ */

/* Doubles that a slice tells of a row. */
#define VISATB_SLICE_STATISTICS 6

/* The words of a slice. Start from VISATB_VOCAB_SLICE_INIT. The slices of a vocabulary may be of different
 * widths; each word is in one of them. */
typedef struct visatb_vocab_slice {
    size_t size;
    int64_t first; /* the number of its first word, >= 0 */
    int64_t width; /* how many words it has, >= 1; first + width <= vocab */
} visatb_vocab_slice;

#define VISATB_VOCAB_SLICE_INIT                                                                              \
    { .size = sizeof(visatb_vocab_slice) }

/* What a slice tells of its rows.
 *   args        as for visatb_vitw_slice_loss, and checked as there; nothing is written to its outputs
 *   slice       the words that the logits are of
 *   statistics  out [rows, VISATB_SLICE_STATISTICS], NULL is fine for 0 rows; overlaps nothing. Numbers to be
 *               passed on as they are: what they mean is between these two functions of one version
 * Errors: as visatb_vitw_slice_loss. */
VISATB_API visatb_status visatb_vitw_slice_statistics(const visatb_vitw_loss_args *args,
                                                      const visatb_vocab_slice *slice, double *statistics);

/* The loss of visatb_vitw_loss, from the slice of the logits and what all slices told.
 *   args        as for visatb_vitw_loss. vocab is the whole vocabulary: labels are numbers of its words, and
 *               label_smoothing is shared out to all of them, e / vocab each. But logits and gradient are
 *               [rows, width], and a stride of 0 stands for width
 *   slice       the words that they are of
 *   slices      how many slices there are, this one included, >= 1
 *   statistics  [slices, rows, VISATB_SLICE_STATISTICS]: what visatb_vitw_slice_statistics found, slice by
 *               slice, in any order that is the same for all; NULL is fine for 0 rows; overlaps nothing
 *
 * The rules for rows are those of visatb_vitw_loss, over the whole row: -inf is allowed, and a slice may have
 * nothing else; logits are bad that are NaN or +inf in any slice, or -inf in all. A bad row's gradient is NaN
 * in every slice, and an ignored row's 0. The loss, and 1 - p of a confident token, are as accurate as there:
 * sums of slices are fp64, of which none is a difference. So is the gradient, which differs in last bits from
 * that of whole rows.
 *
 * The logits are read a second time, where a gradient is wanted; they must not have changed. In place, a
 * failed call leaves them as they were. On the CPU the memory that a call takes is that of visatb_vitw_loss.
 *
 * On a GPU both calls are like those of visatb_vitw_loss, into a stream and without waiting; statistics are
 * in memory that the GPU can reach. The workspace, which both take, is what visatb_vitw_loss_plan asks for so
 * many rows. There is one path, VISATB_CUDA_TWO_READ. What is wrong in the GPU's memory is reported by the
 * second call, with VISATB_REPORT_LABEL also statistics that are not those of the whole vocabulary.
 *
 * Those are found where the widths of the slices do not add up to vocab, or the label is a word of none of
 * them or of several: on the CPU in all rows, on a GPU in the valid ones, each by itself.
 *
 * Errors: as visatb_vitw_loss; ARGUMENT also for a slice that is not in the vocabulary, and on the CPU for
 * statistics that are not those of the whole. */
VISATB_API visatb_status visatb_vitw_slice_loss(const visatb_vitw_loss_args *args,
                                                const visatb_vocab_slice *slice, int64_t slices,
                                                const double *statistics);

/* ------------------------------------------------------------------------------------------------------
 * 7. Weights that change from step to step
 *
 * The methods that the paper compares with are the VITW loss with other weights, which change from one step
 * of the optimiser to the next: visatb_method_weights gives those of the coming step, before its first
 * forward, and visatb_method_update is told of the step when it is done. Methods that read losses have those
 * up to the step before, for the weights of a step must be known before its losses are. docs/mathematics.md
 * has the formulas, and where they differ from other programs'.
 *
 * A *step* is that of the optimiser, over all of its micro-batches and ranks: its losses are sums over them
 * all. Ranks that are told the same have the same weights, bit for bit (where the C library's exp, log and
 * cos are the same), and need not exchange them.
 * ------------------------------------------------------------------------------------------------------ */

/* The methods; N tasks. 0 is none, so that a forgotten field is an error. The values never change. */
typedef enum visatb_method_kind {
    VISATB_METHOD_EW = 1,    /* equal weights: 1 */
    VISATB_METHOD_TLA = 2,   /* task-level averaging: 1 / tokens of the task in the coming step; 0 without */
    VISATB_METHOD_RLW = 3,   /* random: N softmax(standard normal numbers), drawn anew for each step */
    VISATB_METHOD_DWA = 4,   /* N softmax(r / temperature): r is the task's mean loss of the last `window` */
                             /* steps over that of the `window` before; 1 until there are so many steps */
    VISATB_METHOD_IGBV1 = 5, /* N softmax(r): r is the task's last loss over its mean loss of the steps */
                             /* [base_first, base_end); 1 before step base_end */
} visatb_method_kind;

/* What a method is made from. Start from VISATB_METHOD_OPTIONS_INIT, and set kind and tasks. Fields that a
 * kind does not read do not count for it, but must be in their range. */
typedef struct visatb_method_options {
    size_t size;
    visatb_method_kind kind;
    size_t tasks;       /* N >= 1 */
    uint64_t seed;      /* RLW: the draws are a function of the seed and the number of the step alone */
    int64_t window;     /* DWA: steps in each of its two windows, >= 1 */
    double temperature; /* DWA: > 0, finite */
    int64_t base_first; /* IGBV1: the first step of its base, counted from 0; >= 0 */
    int64_t base_end;   /* IGBV1: the step after the last of its base; > base_first */
} visatb_method_options;

#define VISATB_METHOD_OPTIONS_INIT                                                                           \
    {                                                                                                        \
        .size = sizeof(visatb_method_options), .window = 25, .temperature = 2.0, .base_first = 100,          \
        .base_end = 200                                                                                      \
    }

/* A method, and what it has been told: the number of its steps, and for DWA and IGBV1 their losses. */
typedef struct visatb_method visatb_method;

/* A method before its first step.
 *   method  out; destroy with visatb_method_destroy
 * Errors: ARGUMENT, MEMORY. DWA takes 16 * tasks * window bytes. */
VISATB_API visatb_status visatb_method_create(const visatb_method_options *options, visatb_method **method);

/* Frees the method; NULL is fine. */
VISATB_API void visatb_method_destroy(visatb_method *method);

/* The weights of the coming step.
 *   task_tokens  [tasks], >= 0: the valid tokens of the coming step by task. Read by TLA only; NULL is fine
 *                for the others
 *   weights      out [tasks], >= 0, as double: round them to the float that a loss takes. They sum to tasks,
 *                but for TLA, where the weight of a task that is there times its tokens is 1
 * Nothing changes: asked again, it says the same. Errors: ARGUMENT. */
VISATB_API visatb_status visatb_method_weights(const visatb_method *method, const int64_t *task_tokens,
                                               double *weights);

/* Tells of the step that is done. One call for each step of the optimiser, also for one without a token.
 *   task_nll     [tasks], finite, >= 0: sums of the nll over the whole step by task, as the loss gives them
 *                (visatb_vitw_loss_args), added up over micro-batches and ranks
 *   task_tokens  [tasks], >= 0: the valid tokens of the step by task, which the sums are over
 * Read by DWA and IGBV1 only; NULL is fine for the others, which count the step. A task without a token was
 * not in the step: it has no loss in it, and its sum is 0.
 *
 * A sum that is NaN or infinite is refused, for it would stay in the means. Where a step has one and the
 * training goes on, as after an overflow in fp16, the task is to be told of as one that was not there: 0 and
 * 0.
 *
 * Must not be called while another thread uses the method. Errors: ARGUMENT; nothing changes then. */
VISATB_API visatb_status visatb_method_update(visatb_method *method, const double *task_nll,
                                              const int64_t *task_tokens);

/* How many bytes the state of a method has: 80; for DWA 16 * tasks * window more, and for IGBV1 24 * tasks.
 * It does not change while the method lives. */
VISATB_API visatb_status visatb_method_state_size(const visatb_method *method, size_t *size);

/* Writes the state, to be kept beside a checkpoint: all that the method was made from and told, in a format
 * that is the same on every machine.
 *   state  out [size] bytes
 *   size   what visatb_method_state_size says
 * Errors: ARGUMENT. */
VISATB_API visatb_status visatb_method_save(const visatb_method *method, void *state, size_t size);

/* Makes the method what it was when the state was saved; what follows has the same bits.
 *   method  made from the same options, as far as its kind reads them
 *   state   [size] bytes of visatb_method_save
 * Must not be called while another thread uses the method. Errors: ARGUMENT; DATA for a state that is cut or
 * damaged, of another version of the format, of a method that was made from other options, or with losses and
 * counts that no steps lead to. Nothing changes then. */
VISATB_API visatb_status visatb_method_restore(visatb_method *method, const void *state, size_t size);

#ifdef __cplusplus
}
#endif

#endif /* VISATB_H */
