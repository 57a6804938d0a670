/* The types of logits and gradients: how many of them a granule holds, and how they become float and back.
 * Rounding is to the nearest, ties to even. Gradients are EXACT in a type of so many digits that what
 * exp_of() loses would often decide how an entry is rounded; fp32 is promised no such rounding. */
#ifndef VISATB_CUDA_ELEMENTS_CUH
#define VISATB_CUDA_ELEMENTS_CUH

#include "cuda/primitives.cuh"

struct float_element {
    typedef uint32_t bits;
    enum { IN_GRANULE = 4, EXACT = false };

    DEVICE float widen(bits one) {
        return float_of_bits(one);
    }
    DEVICE bits narrow(float value) {
        return bits_of_float(value);
    }
    DEVICE void widen(const granule &g, float *values) {
#pragma unroll
        for (int i = 0; i < IN_GRANULE; ++i)
            values[i] = float_of_bits(g.words[i]);
    }
    DEVICE void narrow(const float *values, granule *g) {
#pragma unroll
        for (int i = 0; i < IN_GRANULE; ++i)
            g->words[i] = bits_of_float(values[i]);
    }
};

/* What bf16 and fp16 share: two elements in a word. */
template <typename Half> struct half_elements {
    typedef uint16_t bits;
    enum { IN_GRANULE = 8 };

    DEVICE bits narrow(float value) {
        return (bits)(Half::pack(value, value) & 0xffffU);
    }
    DEVICE void widen(const granule &g, float *values) {
#pragma unroll
        for (int i = 0; i < IN_GRANULE / 2; ++i) {
            values[2 * i] = Half::widen_low(g.words[i]);
            values[2 * i + 1] = Half::widen_high(g.words[i]);
        }
    }
    DEVICE void narrow(const float *values, granule *g) {
#pragma unroll
        for (int i = 0; i < IN_GRANULE / 2; ++i)
            g->words[i] = Half::pack(values[2 * i], values[2 * i + 1]);
    }
};

struct bf16_element : half_elements<bf16_element> {
    enum { EXACT = false };
    using half_elements::widen;
    DEVICE float widen_low(uint32_t pair) {
        return float_of_bits(pair << 16);
    }
    DEVICE float widen_high(uint32_t pair) {
        return float_of_bits(pair & 0xffff0000U);
    }
    DEVICE uint32_t pack(float low, float high) {
        return pack_bf16(low, high);
    }
    DEVICE float widen(bits one) {
        return widen_low(one);
    }
};

struct half_element : half_elements<half_element> {
    enum { EXACT = true };
    using half_elements::widen;
    DEVICE float widen_low(uint32_t pair) {
        return widen_half(pair & 0xffffU);
    }
    DEVICE float widen_high(uint32_t pair) {
        return widen_half(pair >> 16);
    }
    DEVICE uint32_t pack(float low, float high) {
        return pack_half(low, high);
    }
    DEVICE float widen(bits one) {
        return widen_low(one);
    }
};

/* An array of elements whose granules are those of memory: its first element may stand inside one. Places in
 * it are counted in 32 bits, for 64 cost twice as many instructions. */
template <typename Element> struct granule_row {
    typedef typename Element::bits bits;

    bits *start; /* element 0 */
    int32_t count;
    int32_t phase; /* elements between the start of granule 0 and element 0 */

    DEVICE granule_row of(void *start, int32_t count) {
        granule_row row;
        row.start = static_cast<bits *>(start);
        row.count = count;
        row.phase = (int32_t)(reinterpret_cast<uintptr_t>(start) % sizeof(granule) / sizeof(bits));
        return row;
    }
};

template <typename Element> DEVICE int32_t granule_count(const granule_row<Element> &row) {
    return (row.phase + row.count + Element::IN_GRANULE - 1) / Element::IN_GRANULE;
}

/* The granule that an element stands in. */
template <typename Element> DEVICE int32_t granule_of(const granule_row<Element> &row, int32_t element) {
    return (row.phase + element) / Element::IN_GRANULE;
}

/* The element that a granule begins with; below 0 in the first one of a row that begins inside it. */
template <typename Element> DEVICE int32_t first_of_granule(const granule_row<Element> &row, int32_t index) {
    return index * Element::IN_GRANULE - row.phase;
}

/* Whether all of a granule's elements are the row's. */
template <typename Element> DEVICE bool is_whole(const granule_row<Element> &row, int32_t index) {
    const int32_t first = first_of_granule(row, index);
    return first >= 0 && first + Element::IN_GRANULE <= row.count;
}

/* A granule of which only the row's own elements are read, one by one; the others are 0. */
template <typename Element> DEVICE granule read_edge(const granule_row<Element> &row, int32_t index) {
    enum { IN_WORD = sizeof(uint32_t) / sizeof(typename Element::bits) };
    const int32_t first = first_of_granule(row, index);
    granule g = {};
#pragma unroll
    for (int i = 0; i < Element::IN_GRANULE; ++i)
        if (first + i >= 0 && first + i < row.count)
            g.words[i / IN_WORD] |= (uint32_t)row.start[first + i] << (i % IN_WORD * 16);
    return g;
}

#endif
