/* A gradient by an upstream factor that only the GPU knows, and that nearly always is the expected one. */
#include "cuda/elements.cuh"
#include "cuda/kernels.h"

enum {
    SCALE_THREADS = 256,
    SCALE_BLOCKS_OF_MULTIPROCESSOR = 8,
    PIECE = 1 << 14, /* elements that a block takes at a time: whole granules, so that all begin alike */
};

template <typename Element>
DEVICE void scale_granule(const granule_row<Element> &row, int32_t index, float factor) {
    enum { COUNT = Element::IN_GRANULE };
    const int32_t first = first_of_granule(row, index);
    float values[COUNT];
    if (is_whole(row, index)) {
        granule g = load_granule(row.start + first);
        Element::widen(g, values);
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            values[i] *= factor;
        Element::narrow(values, &g);
        store_granule(row.start + first, g);
        return;
    }
    for (int i = 0; i < COUNT; ++i)
        if (first + i >= 0 && first + i < row.count)
            row.start[first + i] = Element::narrow(Element::widen(row.start[first + i]) * factor);
}

template <typename Element> KERNEL(SCALE_THREADS, 1) scale_elements(const cuda_scale scale) {
    typedef typename Element::bits bits;
    const float factor = *scale.factor;
    const float expected = scale.expected != NULL ? *scale.expected : 1;
    if (factor == expected)
        return;
    const int64_t pieces = (scale.width + PIECE - 1) / PIECE;
    for (int64_t item = cluster_index(); item < scale.rows * pieces; item += cluster_count()) {
        const int64_t first = item % pieces * PIECE;
        const int64_t left = scale.width - first;
        const granule_row<Element> piece = granule_row<Element>::of(
            static_cast<bits *>(scale.gradient) + item / pieces * scale.stride + first,
            left < PIECE ? (int32_t)left : (int32_t)PIECE);
        for (int32_t g = thread_index(); g < granule_count(piece); g += thread_count())
            scale_granule(piece, g, factor / expected);
    }
}

int cuda_launch_scale(const cuda_scale *scale, const cuda_device *device, void *stream) {
    const int64_t wanted = scale->rows * ((scale->width + PIECE - 1) / PIECE);
    const int64_t most = (int64_t)device->multiprocessors * SCALE_BLOCKS_OF_MULTIPROCESSOR;
    const launch_shape shape = {wanted < most ? wanted : most, 1, SCALE_THREADS, 0, stream};
    switch (scale->dtype) {
    case VISATB_DTYPE_BFLOAT16: return launch(scale_elements<bf16_element>, shape, *scale);
    case VISATB_DTYPE_FLOAT16: return launch(scale_elements<half_element>, shape, *scale);
    default: return launch(scale_elements<float_element>, shape, *scale);
    }
}
