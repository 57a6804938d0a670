/* The loss where the shared memory of a cluster holds a row: its logits are read once, by asynchronous
 * copies. Several clusters share their multiprocessors, so that one reads while another writes. */
#include "cuda/row_kernel.cuh"

/* A block's share of a row in its shared memory, behind the state. */
template <typename Element> struct shared_slice {
    enum { AHEAD = 1 };

    granule_row<Element> row;
    const granule *granules;
    int32_t first;

    /* The first and the last granule of a row may hold elements of others, which a copy must not read: in
     * place, they are being written. */
    DEVICE shared_slice fetch(const granule_row<Element> &row, const block_share &share, block_state *state) {
        granule *const here = reinterpret_cast<granule *>(shared_memory() + PATH_STATE_BYTES);
        int32_t first = share.first;
        int32_t end = share.end;
        while (first < end && !is_whole(row, first))
            ++first;
        while (first < end && !is_whole(row, end - 1))
            --end;
        if (thread_index() == 0) {
            bulk_barrier_init(&state->arrival);
            bulk_copy(here + (first - share.first), row.start + first_of_granule(row, first),
                      (uint32_t)(end - first) * (uint32_t)sizeof(granule), &state->arrival);
        }
        for (int32_t g = share.first + thread_index(); g < first; g += thread_count())
            here[g - share.first] = read_edge(row, g);
        for (int32_t g = end + thread_index(); g < share.end; g += thread_count())
            here[g - share.first] = read_edge(row, g);
        block_barrier();
        bulk_wait(&state->arrival);
        shared_slice slice;
        slice.row = row;
        slice.granules = here;
        slice.first = share.first;
        return slice;
    }

    DEVICE granule read(const shared_slice &slice, int32_t g) {
        return slice.granules[g - slice.first];
    }
};

/* With options it is the arithmetic that takes the time, and registers help more than a third block. */
template <typename Element, bool OPTIONS>
KERNEL(PATH_MOST_THREADS, OPTIONS ? 2 : 3)
one_read(const cuda_loss loss) {
#if HOPPER
    run_row<Element, OPTIONS, shared_slice<Element>>(loss);
#else
    give_up();
#endif
}

template <typename Element, bool OPTIONS> struct one_read_path {
    static void (*kernel())(cuda_loss) {
        return one_read<Element, OPTIONS>;
    }
};

int path_launch_one_read(const cuda_loss *loss, const cuda_loss_plan *plan, void *stream) {
    return launch_path<one_read_path>(*loss, *loss, shape_of(*loss, *plan, stream));
}

int path_one_read_is_built(bool *built) {
    int capability = 0;
    const int error = kernel_capability(one_read<bf16_element, false>, &capability);
    *built = capability >= 90;
    return error;
}
