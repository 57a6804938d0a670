/* A row's logits where they are in the GPU's memory, read anew each time. */
#ifndef VISATB_CUDA_MEMORY_SLICE_CUH
#define VISATB_CUDA_MEMORY_SLICE_CUH

#include "cuda/row_kernel.cuh"

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

#endif
