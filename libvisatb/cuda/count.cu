/* What must be known before the first row: D, and for the linear form which rows are valid; and D without a
 * loss, for a step of several. One block goes over all rows, which is short work beside the loss, and adds up
 * in the same order every time. */
#include "cuda/block_sums.cuh"
#include "cuda/row_rules.cuh"

enum { ROWS_AHEAD = 4 };

struct count_state {
    double denominators[SUM_WARPS];
    int64_t rows[SUM_WARPS];
};

/* The rows of a thread, one after the other. */
struct row_range {
    int64_t first;
    int64_t end;
};

DEVICE row_range range_of_thread(int64_t rows) {
    const int64_t each = (rows + thread_count() - 1) / thread_count();
    const int64_t first = each * thread_index();
    row_range range;
    range.first = first < rows ? first : rows;
    range.end = first + each < rows ? first + each : rows;
    return range;
}

/* Lists the valid rows of a range, of which the first is number `place`. */
DEVICE int64_t list_rows(const cuda_count &count, const row_range &range, int64_t place) {
    int64_t first_beyond = INT64_MAX;
    for (int64_t row = range.first; row < range.end; ++row) {
        if (count.rows.labels[row] == count.rows.ignore_index)
            continue;
        if (place < count.room) {
            count.index[place] = row;
        } else {
            count.outcomes[row] = spoiled_outcome(VISATB_REPORT_VALID_ROWS);
            first_beyond = row < first_beyond ? row : first_beyond;
        }
        ++place;
    }
    return first_beyond;
}

/* The weight of a range's rows; how many of them are valid goes to *valid. */
DEVICE double weigh_rows(const cuda_rows &rows, const row_range &range, int64_t *valid) {
    double weight = 0;
    *valid = 0;
    for (int64_t row = range.first; row < range.end; row += ROWS_AHEAD) {
        row_facts facts[ROWS_AHEAD];
        facts_of_some<ROWS_AHEAD>(rows, row, 1, range.end, facts);
#pragma unroll
        for (int i = 0; i < ROWS_AHEAD; ++i) {
            weight += facts[i].weight;
            *valid += facts[i].valid ? 1 : 0;
        }
    }
    return weight;
}

KERNEL(SUM_THREADS, 1) count_rows(const cuda_count count) {
    count_state *const state = reinterpret_cast<count_state *>(shared_memory());
    const row_range range = range_of_thread(count.rows.rows);
    int64_t valid = 0;
    double denominator = weigh_rows(count.rows, range, &valid);
    denominator = sum_over_block(denominator, state->denominators);
    const int64_t place = sum_before(valid, state->rows);
    const int64_t all = sum_over_block(valid, state->rows);
    int64_t first_beyond = INT64_MAX;
    if (count.index != NULL) {
        first_beyond = least_of_block(list_rows(count, range, place), state->rows);
        const int64_t listed = all < count.room ? all : count.room;
        for (int64_t i = listed + thread_index(); i < count.capacity; i += thread_count())
            count.index[i] = -1;
    }
    if (thread_index() == 0) {
        count.step->denominator = count.computes ? denominator : value_of(count.given);
        count.step->valid_rows = all;
        count.step->first_beyond = first_beyond == INT64_MAX ? -1 : first_beyond;
    }
}

int cuda_launch_count(const cuda_count *count, void *stream) {
    const launch_shape shape = {1, 1, sum_threads(count->rows.rows), sizeof(count_state), stream};
    return launch(count_rows, shape, *count);
}

/* --- without a loss --------------------------------------------------------------------------------------
 */

DEVICE void tally_task(const cuda_tally &tally, int64_t task, int64_t *places) {
    int64_t tokens = 0;
    for (int64_t row = thread_index(); row < tally.rows.rows; row += thread_count())
        if (tally.rows.labels[row] != tally.rows.ignore_index && tally.rows.task_ids[row] == task)
            ++tokens;
    tokens = sum_over_block(tokens, places);
    if (thread_index() == 0)
        tally.task_tokens[task] = (tally.adds ? tally.task_tokens[task] : 0) + tokens;
}

/* The first block has D, in the order of count_rows; the others the tasks. */
KERNEL(SUM_THREADS, 1) tally_rows(const cuda_tally tally) {
    count_state *const state = reinterpret_cast<count_state *>(shared_memory());
    if (cluster_index() > 0) {
        for (int64_t task = cluster_index() - 1; task < tally.rows.tasks; task += cluster_count() - 1)
            tally_task(tally, task, state->rows);
        return;
    }
    if (tally.denominator == NULL)
        return;
    int64_t valid = 0;
    const double mine = weigh_rows(tally.rows, range_of_thread(tally.rows.rows), &valid);
    const double denominator = sum_over_block(mine, state->denominators);
    if (thread_index() == 0)
        *tally.denominator = (tally.adds ? *tally.denominator : 0) + denominator;
}

int cuda_launch_tally(const cuda_tally *tally, void *stream) {
    constexpr int64_t MOST_BLOCKS = 1024;
    const int64_t tasks = tally->rows.tasks < MOST_BLOCKS ? tally->rows.tasks : MOST_BLOCKS;
    const int64_t blocks = tally->task_tokens != NULL ? 1 + tasks : 1;
    const launch_shape shape = {blocks, 1, sum_threads(tally->rows.rows), sizeof(count_state), stream};
    return launch(tally_rows, shape, *tally);
}
