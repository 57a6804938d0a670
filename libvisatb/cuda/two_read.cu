/* The loss where a row is read twice, by one block: for GPUs before compute capability 9.0, and for rows that
 * no shared memory holds. The second read comes from the L2 cache, if it holds the rows that are under way.
 */
#include "cuda/row_kernel.cuh"

/* The row itself. */
template <typename Element> struct memory_slice {
    enum { AHEAD = 4 };

    granule_row<Element> row;

    DEVICE memory_slice fetch(const granule_row<Element> &row, const block_share &, block_state *) {
        memory_slice slice;
        slice.row = row;
        return slice;
    }

    DEVICE granule read(const memory_slice &slice, int32_t g) {
        if (is_whole(slice.row, g))
            return load_granule(slice.row.start + first_of_granule(slice.row, g));
        return read_edge(slice.row, g);
    }
};

template <typename Element, bool OPTIONS> KERNEL(PATH_MOST_THREADS, 2) two_read(const cuda_loss loss) {
    run_row<Element, OPTIONS, memory_slice<Element>>(loss);
}

template <typename Element, bool OPTIONS> struct two_read_path {
    static void (*kernel())(cuda_loss) {
        return two_read<Element, OPTIONS>;
    }
};

int path_launch_two_read(const cuda_loss *loss, const cuda_loss_plan *plan, void *stream) {
    return launch_path<two_read_path>(*loss, shape_of(*loss, *plan, stream));
}
