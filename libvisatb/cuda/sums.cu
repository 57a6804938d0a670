/* What the rows come to: one block for the loss and the report, and one for each task, each going over all
 * rows in the same order every time. */
#include "cuda/block_sums.cuh"
#include "cuda/row_rules.cuh"

enum { ROWS_AHEAD = 4 };

struct sums_state {
    double values[SUM_WARPS];
    int64_t rows[SUM_WARPS];
};

/* --- the loss and the report ---------------------------------------------------------------------------- */

/* The row and what is wrong with it in one number, of which the lowest row's is the least. */
enum { CODES = 16 };

DEVICE int64_t finding(int64_t row, int code) {
    return row * CODES + code;
}

DEVICE visatb_report report_of(int64_t least_finding) {
    visatb_report report;
    report.code = VISATB_REPORT_OK;
    report.reserved = 0;
    report.first_bad_row = -1;
    if (least_finding != INT64_MAX) {
        report.code = (int32_t)(least_finding % CODES);
        report.first_bad_row = least_finding / CODES;
    }
    return report;
}

DEVICE void write_totals(const cuda_sums &sums, double numerator, double denominator, bool divisible,
                         visatb_report report) {
    const bool divides = sums.divides && denominator > 0;
    if (!divisible && report.code == VISATB_REPORT_OK)
        report.code = VISATB_REPORT_DENOMINATOR;
    *sums.loss = divisible ? numerator / (divides ? denominator : 1) : NAN;
    if (sums.numerator != NULL)
        *sums.numerator = numerator;
    if (sums.denominator_out != NULL)
        *sums.denominator_out = denominator;
    if (sums.report != NULL)
        *sums.report = report;
}

/* What a thread has seen. */
struct loss_sums {
    double numerator;
    int64_t least;     /* finding */
    int64_t undivided; /* rows whose weight no denominator divides */
};

DEVICE void add_row(loss_sums *sums, const row_facts &facts, const cuda_outcome &outcome,
                    bool divides_weights) {
    int code = outcome.code;
    sums->numerator += outcome.loss;
    if (facts.weight > 0 && !divides_weights) {
        ++sums->undivided;
        if (code == VISATB_REPORT_OK)
            code = VISATB_REPORT_DENOMINATOR;
    }
    if (code != VISATB_REPORT_OK && sums->least == INT64_MAX)
        sums->least = finding(facts.row, code);
}

DEVICE void sum_loss(const cuda_sums &sums, sums_state *state) {
    const double denominator = denominator_of(sums.denominator, sums.step);
    const bool sound = !sums.divides || is_denominator(denominator);
    const bool divides_weights = !sums.divides || (sound && denominator > 0);
    loss_sums mine;
    mine.numerator = 0;
    mine.least = INT64_MAX;
    mine.undivided = 0;
    const int64_t step = thread_count();
    for (int64_t row = thread_index(); row < sums.rows.rows; row += ROWS_AHEAD * step) {
        row_facts facts[ROWS_AHEAD];
        cuda_outcome outcomes[ROWS_AHEAD];
        facts_of_some<ROWS_AHEAD>(sums.rows, row, step, sums.rows.rows, facts);
#pragma unroll
        for (int i = 0; i < ROWS_AHEAD; ++i)
            outcomes[i] = facts[i].valid ? sums.outcomes[facts[i].row] : spoiled_outcome(VISATB_REPORT_OK);
#pragma unroll
        for (int i = 0; i < ROWS_AHEAD; ++i)
            if (facts[i].valid)
                add_row(&mine, facts[i], outcomes[i], divides_weights);
    }
    const double numerator = sum_over_block(mine.numerator, state->values);
    const bool divisible = sound && sum_over_block(mine.undivided, state->rows) == 0;
    const visatb_report report = report_of(least_of_block(mine.least, state->rows));
    if (thread_index() == 0)
        write_totals(sums, numerator, denominator, divisible, report);
}

/* --- the tasks ------------------------------------------------------------------------------------------ */

DEVICE void sum_task(const cuda_sums &sums, int64_t task, sums_state *state) {
    double nll = 0;
    int64_t tokens = 0;
    for (int64_t row = thread_index(); row < sums.rows.rows; row += thread_count())
        if (sums.rows.labels[row] != sums.rows.ignore_index && sums.rows.task_ids[row] == task) {
            nll += sums.outcomes[row].nll;
            ++tokens;
        }
    nll = sum_over_block(nll, state->values);
    tokens = sum_over_block(tokens, state->rows);
    if (thread_index() == 0 && sums.task_nll != NULL)
        sums.task_nll[task] = nll;
    if (thread_index() == 0 && sums.task_tokens != NULL)
        sums.task_tokens[task] = tokens;
}

KERNEL(SUM_THREADS, 1) sum_rows(const cuda_sums sums) {
    sums_state *const state = reinterpret_cast<sums_state *>(shared_memory());
    if (cluster_index() == 0) {
        sum_loss(sums, state);
        return;
    }
    for (int64_t task = cluster_index() - 1; task < sums.rows.tasks; task += cluster_count() - 1)
        sum_task(sums, task, state);
}

/* --- the rows ------------------------------------------------------------------------------------------- */

KERNEL(SUM_THREADS, 1) copy_rows(const cuda_sums sums) {
    const int64_t step = cluster_count() * thread_count();
    for (int64_t row = cluster_index() * thread_count() + thread_index(); row < sums.rows.rows; row += step) {
        const bool valid = sums.rows.labels[row] != sums.rows.ignore_index;
        if (sums.row_nll != NULL)
            sums.row_nll[row] = valid ? (float)sums.outcomes[row].nll : 0;
        if (sums.row_lse != NULL)
            sums.row_lse[row] = valid ? sums.outcomes[row].lse : 0;
    }
}

int cuda_launch_sums(const cuda_sums *sums, void *stream) {
    constexpr int64_t MOST_BLOCKS = 1024;
    const bool by_task = sums->task_nll != NULL || sums->task_tokens != NULL;
    const int64_t tasks = sums->rows.tasks < MOST_BLOCKS ? sums->rows.tasks : MOST_BLOCKS;
    const int threads = sum_threads(sums->rows.rows);
    const launch_shape shape = {by_task ? 1 + tasks : 1, 1, threads, sizeof(sums_state), stream};
    const int error = launch(sum_rows, shape, *sums);
    if (error != 0 || (sums->row_nll == NULL && sums->row_lse == NULL))
        return error;
    const int64_t blocks = (sums->rows.rows + threads - 1) / threads;
    const launch_shape rows = {blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS, 1, threads, 0, stream};
    return launch(copy_rows, rows, *sums);
}
