/* The loss where a row is read twice, by one block: for GPUs before compute capability 9.0, and for rows that
 * no shared memory holds. The second read comes from the L2 cache, if it holds the rows that are under way.
 */
#include "cuda/memory_slice.cuh"

template <typename Element, bool OPTIONS> KERNEL(PATH_MOST_THREADS, 2) two_read(const cuda_loss loss) {
    run_row<Element, OPTIONS, memory_slice<Element>>(loss);
}

template <typename Element, bool OPTIONS> struct two_read_path {
    static void (*kernel())(cuda_loss) {
        return two_read<Element, OPTIONS>;
    }
};

int path_launch_two_read(const cuda_loss *loss, const cuda_loss_plan *plan, void *stream) {
    return launch_path<two_read_path>(*loss, *loss, shape_of(*loss, *plan, stream));
}
