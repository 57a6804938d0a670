/* Rows of hidden states on their way into the products and out of them, and what else surrounds the products
 * of the linear form. Rows are moved as bits: nothing here is computed with but the sums that are rounded. */
#include "cuda/elements.cuh"
#include "cuda/kernels.h"
#include "cuda/primitives.cuh"
#include "cuda/row_rules.cuh"

/* A grid may be larger, but gains nothing; what is beyond it, its threads come back for. */
enum { THREADS = 256, MOST_BLOCKS = 1 << 20 };

/* --- how rows are dealt out ----------------------------------------------------------------------------- */

/* An operation on rows of which each is moved by `lanes` threads: those of a block, or a part of them, so
 * that narrow rows leave few threads idle. */
template <typename Operation> struct row_work {
    Operation operation;
    int lanes; /* a power of two in [WARP, THREADS] */
};

/* Where a thread begins, how far it is to its next row, and which of the row's threads it is. */
struct row_place {
    int64_t row;
    int64_t step;
    int lane;
};

DEVICE row_place first_place(int lanes) {
    const int at_a_time = THREADS / lanes;
    row_place place;
    place.row = cluster_index() * at_a_time + thread_index() / lanes;
    place.step = cluster_count() * at_a_time;
    place.lane = thread_index() % lanes;
    return place;
}

static int lanes_of(const cuda_matrix *matrix) {
    const int64_t granules = matrix->width / (int64_t)(sizeof(granule) / matrix->element_bytes);
    int lanes = WARP;
    while (lanes < THREADS && lanes < granules)
        lanes *= 2;
    return lanes;
}

static launch_shape shape_of(int64_t items, int64_t items_of_block, void *stream) {
    const int64_t blocks = items / items_of_block + (items % items_of_block != 0);
    launch_shape shape;
    shape.clusters = blocks < (int64_t)MOST_BLOCKS ? blocks : (int64_t)MOST_BLOCKS;
    shape.cluster = 1;
    shape.threads = THREADS;
    shape.shared_bytes = 0;
    shape.stream = stream;
    return shape;
}

/* `halves` for elements of 2 bytes, `words` for those of 4; `matrix` is the one whose rows are dealt out. */
template <typename Operation>
static int launch_rows(void (*halves)(row_work<Operation>), void (*words)(row_work<Operation>),
                       const Operation *operation, const cuda_matrix *matrix, void *stream) {
    row_work<Operation> work;
    work.operation = *operation;
    work.lanes = lanes_of(matrix);
    return launch(matrix->element_bytes == sizeof(uint16_t) ? halves : words,
                  shape_of(matrix->rows, THREADS / work.lanes, stream), work);
}

/* --- moving a row --------------------------------------------------------------------------------------- */

template <typename Element> DEVICE Element *row_of(const cuda_matrix &matrix, int64_t row) {
    return static_cast<Element *>(matrix.start) + row * matrix.stride;
}

DEVICE int64_t misalignment_of(const void *pointer) {
    return (int64_t)(reinterpret_cast<uintptr_t>(pointer) % sizeof(granule));
}

/* The parts of a row: elements up to `first`, whole granules, elements from `last` on. */
template <typename Element> struct row_parts {
    int64_t first;
    int64_t granules;
    int64_t last;
};

template <typename Element> DEVICE row_parts<Element> parts_of(const Element *row, int64_t width) {
    enum { IN_GRANULE = sizeof(granule) / sizeof(Element) };
    const int64_t gap = (int64_t)sizeof(granule) - misalignment_of(row);
    const int64_t before = gap % (int64_t)sizeof(granule) / (int64_t)sizeof(Element);
    row_parts<Element> parts;
    parts.first = before < width ? before : width;
    parts.granules = (width - parts.first) / IN_GRANULE;
    parts.last = parts.first + parts.granules * IN_GRANULE;
    return parts;
}

template <typename Element>
DEVICE void copy_elements(Element *to, const Element *from, int64_t first, int64_t end, int lane, int lanes) {
    for (int64_t i = first + lane; i < end; i += lanes)
        to[i] = from[i];
}

template <typename Element>
DEVICE void copy_row(Element *to, const Element *from, int64_t width, int lane, int lanes) {
    if (misalignment_of(to) != misalignment_of(from)) {
        copy_elements(to, from, 0, width, lane, lanes);
        return;
    }
    const row_parts<Element> parts = parts_of(to, width);
    granule *const into = reinterpret_cast<granule *>(to + parts.first);
    const granule *const out_of = reinterpret_cast<const granule *>(from + parts.first);
    copy_elements(to, from, 0, parts.first, lane, lanes);
    for (int64_t i = lane; i < parts.granules; i += lanes)
        into[i] = load_granule(&out_of[i]);
    copy_elements(to, from, parts.last, width, lane, lanes);
}

/* `bits` is the element, twice where it has 2 bytes. */
template <typename Element>
DEVICE void fill_row(Element *to, int64_t width, uint32_t bits, int lane, int lanes) {
    const row_parts<Element> parts = parts_of(to, width);
    granule *const into = reinterpret_cast<granule *>(to + parts.first);
    const granule same = {{bits, bits, bits, bits}};
    for (int64_t i = lane; i < parts.first; i += lanes)
        to[i] = (Element)bits;
    for (int64_t i = lane; i < parts.granules; i += lanes)
        into[i] = same;
    for (int64_t i = parts.last + lane; i < width; i += lanes)
        to[i] = (Element)bits;
}

/* A row that is wrong in some way has a gradient of NaN, whatever its weight. */
DEVICE bool is_untrained(const row_facts &facts) {
    return facts.code == VISATB_REPORT_OK && facts.weight == 0;
}

/* --- the kernels of rows -------------------------------------------------------------------------------- */

template <typename Element> KERNEL(THREADS, 4) gather_rows(row_work<cuda_gather> work) {
    const cuda_gather &gather = work.operation;
    const int64_t width = gather.gathered.width;
    row_place at = first_place(work.lanes);
    for (; at.row < gather.gathered.rows; at.row += at.step) {
        const int64_t row = gather.index[at.row];
        Element *const to = row_of<Element>(gather.gathered, at.row);
        if (row < 0)
            fill_row<Element>(to, width, 0, at.lane, work.lanes);
        else
            copy_row<Element>(to, row_of<Element>(gather.hidden, row), width, at.lane, work.lanes);
    }
}

template <typename Element> KERNEL(THREADS, 4) forget_rows(row_work<cuda_forget> work) {
    const cuda_forget &forget = work.operation;
    row_place at = first_place(work.lanes);
    for (; at.row < forget.gathered.rows; at.row += at.step) {
        const int64_t row = forget.index[at.row];
        if (row >= 0 && is_untrained(facts_of(forget.rows, row)))
            fill_row<Element>(row_of<Element>(forget.gathered, at.row), forget.gathered.width, 0, at.lane,
                              work.lanes);
    }
}

template <typename Element> KERNEL(THREADS, 4) scatter_rows(row_work<cuda_scatter> work) {
    const cuda_scatter &scatter = work.operation;
    const int64_t width = scatter.gathered.width;
    row_place at = first_place(work.lanes);
    for (; at.row < scatter.gathered.rows; at.row += at.step) {
        const int64_t row = scatter.index[at.row];
        if (row < 0)
            continue;
        Element *const to = row_of<Element>(scatter.hidden_gradient, row);
        if (is_untrained(facts_of(scatter.rows, row)))
            fill_row<Element>(to, width, 0, at.lane, work.lanes);
        else
            copy_row<Element>(to, row_of<Element>(scatter.gathered, at.row), width, at.lane, work.lanes);
    }
}

/* As an element, twice where it has 2 bytes. */
DEVICE uint32_t nan_bits(visatb_dtype dtype) {
    switch (dtype) {
    case VISATB_DTYPE_BFLOAT16: return 0x7fc07fc0U;
    case VISATB_DTYPE_FLOAT16: return 0x7e007e00U;
    default: return 0x7fc00000U;
    }
}

template <typename Element> KERNEL(THREADS, 4) clear_rows(row_work<cuda_clear> work) {
    const cuda_clear &clear = work.operation;
    const int64_t beyond = clear.step->first_beyond;
    row_place at = first_place(work.lanes);
    for (; at.row < clear.hidden_gradient.rows; at.row += at.step) {
        const row_facts facts = facts_of(clear.rows, at.row);
        if (facts.valid && (beyond < 0 || at.row < beyond))
            continue;
        const bool spoiled = facts.valid && !is_untrained(facts);
        fill_row<Element>(row_of<Element>(clear.hidden_gradient, at.row), clear.hidden_gradient.width,
                          spoiled ? nan_bits(clear.dtype) : 0, at.lane, work.lanes);
    }
}

int cuda_launch_gather(const cuda_gather *gather, void *stream) {
    return launch_rows(gather_rows<uint16_t>, gather_rows<uint32_t>, gather, &gather->gathered, stream);
}

int cuda_launch_forget(const cuda_forget *forget, void *stream) {
    return launch_rows(forget_rows<uint16_t>, forget_rows<uint32_t>, forget, &forget->gathered, stream);
}

int cuda_launch_scatter(const cuda_scatter *scatter, void *stream) {
    return launch_rows(scatter_rows<uint16_t>, scatter_rows<uint32_t>, scatter, &scatter->gathered, stream);
}

int cuda_launch_clear(const cuda_clear *clear, void *stream) {
    return launch_rows(clear_rows<uint16_t>, clear_rows<uint32_t>, clear, &clear->hidden_gradient, stream);
}

/* --- ones ----------------------------------------------------------------------------------------------- */

struct ones_work {
    void *ones;
    int64_t count;
    uint32_t bits;
    bool halves;
};

KERNEL(THREADS, 4) put_ones(ones_work work) {
    const int64_t step = cluster_count() * THREADS;
    for (int64_t i = cluster_index() * THREADS + thread_index(); i < work.count; i += step) {
        if (work.halves)
            static_cast<uint16_t *>(work.ones)[i] = (uint16_t)work.bits;
        else
            static_cast<uint32_t *>(work.ones)[i] = work.bits;
    }
}

int cuda_launch_ones(void *ones, int64_t count, visatb_dtype dtype, void *stream) {
    ones_work work;
    work.ones = ones;
    work.count = count;
    work.halves = dtype != VISATB_DTYPE_FLOAT32;
    work.bits = dtype == VISATB_DTYPE_BFLOAT16  ? 0x3f80U
                : dtype == VISATB_DTYPE_FLOAT16 ? 0x3c00U
                                                : 0x3f800000U;
    return launch(put_ones, shape_of(count, THREADS, stream), work);
}

/* --- sums to the type that is wanted -------------------------------------------------------------------- */

/* Eight of them, which are a granule afterwards. */
template <typename Element> DEVICE void narrow_granule(const cuda_narrow &narrow, int64_t index) {
    enum { COUNT = Element::IN_GRANULE, WORDS = COUNT / 2 };
    const float *const sum = narrow.sum + index * COUNT;
    uint16_t *const out = static_cast<uint16_t *>(narrow.out) + index * COUNT;
    const granule halves[2] = {load_granule(sum), load_granule(sum + WORDS)};
    float values[COUNT];
    float before[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        values[i] = float_of_bits(halves[i / WORDS].words[i % WORDS]);
    if (narrow.adds) {
        Element::widen(load_granule(out), before);
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            values[i] += before[i];
    }
    granule g;
    Element::narrow(values, &g);
    store_granule(out, g);
}

template <typename Element> DEVICE void narrow_element(const cuda_narrow &narrow, int64_t i) {
    uint16_t *const out = static_cast<uint16_t *>(narrow.out) + i;
    const float sum = narrow.sum[i];
    *out = Element::narrow(narrow.adds ? sum + Element::widen(*out) : sum);
}

template <typename Element> KERNEL(THREADS, 4) narrow_sums(cuda_narrow narrow) {
    enum { COUNT = Element::IN_GRANULE };
    const int64_t step = cluster_count() * THREADS;
    const int64_t start = cluster_index() * THREADS + thread_index();
    const bool aligned = misalignment_of(narrow.out) == 0 && misalignment_of(narrow.sum) == 0;
    const int64_t granules = aligned ? narrow.count / COUNT : 0;
    for (int64_t i = start; i < granules; i += step)
        narrow_granule<Element>(narrow, i);
    for (int64_t i = granules * COUNT + start; i < narrow.count; i += step)
        narrow_element<Element>(narrow, i);
}

int cuda_launch_narrow(const cuda_narrow *narrow, void *stream) {
    const launch_shape shape = shape_of(narrow->count, (int64_t)THREADS * bf16_element::IN_GRANULE, stream);
    if (narrow->dtype == VISATB_DTYPE_BFLOAT16)
        return launch(narrow_sums<bf16_element>, shape, *narrow);
    return launch(narrow_sums<half_element>, shape, *narrow);
}
