/* What must be known before the first row: D, and for the linear form which rows are valid. One block goes
 * over all rows, which is short work beside the loss, and adds up in the same order every time. */
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

KERNEL(SUM_THREADS, 1) count_rows(const cuda_count count) {
    count_state *const state = reinterpret_cast<count_state *>(shared_memory());
    const row_range range = range_of_thread(count.rows.rows);
    double denominator = 0;
    int64_t valid = 0;
    for (int64_t row = range.first; row < range.end; row += ROWS_AHEAD) {
        row_facts facts[ROWS_AHEAD];
        facts_of_some<ROWS_AHEAD>(count.rows, row, 1, range.end, facts);
#pragma unroll
        for (int i = 0; i < ROWS_AHEAD; ++i) {
            denominator += facts[i].weight;
            valid += facts[i].valid ? 1 : 0;
        }
    }
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
