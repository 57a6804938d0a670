/* The scheduler: which fibre goes on, how a grid begins and ends, and what is said when none can go on. */
#include "scheduler.h"

#include "fibres_control.h"

#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>

#if FIBRES_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace fibres {

/* Stacks, which all run `work_on_fibres` and are used again and again. */
struct stack_pool {
    std::vector<std::unique_ptr<context>> all;
    std::vector<context *> idle;

    ~stack_pool() {
        for (const std::unique_ptr<context> &c : all)
            context_free(c.get());
    }
};

static thread_local stack_pool stacks;
static thread_local context own_stack;
static thread_local grid *running;

grid &running_grid() {
    if (running == nullptr)
        fail("a function of kernels outside a kernel");
    return *running;
}

void fail(const char *format, ...) {
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    (void)std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (running != nullptr && running->now != nullptr)
        (void)std::fprintf(stderr, "fibres: cluster %" PRId64 ", block %d, thread %d: %s\n", running->cluster,
                           running->now->rank, running->now->thread, message);
    else
        (void)std::fprintf(stderr, "fibres: %s\n", message);
    std::abort();
}

/* --- who is next ---------------------------------------------------------------------------------------- */

static uint64_t random_number(grid &g) {
    g.random ^= g.random << 13;
    g.random ^= g.random >> 7;
    g.random ^= g.random << 17;
    return g.random >> 16;
}

/* One of the bits; there is at least one. */
static int choose(grid &g, uint32_t candidates) {
    if (g.order == FIBRES_FORWARD)
        return __builtin_ctz(candidates);
    if (g.order == FIBRES_BACKWARD)
        return 31 - __builtin_clz(candidates);
    const auto count = static_cast<unsigned>(__builtin_popcount(candidates));
    for (uint64_t skipped = random_number(g) % count; skipped > 0; --skipped)
        candidates &= candidates - 1;
    return __builtin_ctz(candidates);
}

static bool has_bit(uint32_t bits, int bit) {
    return ((bits >> bit) & 1U) != 0;
}

/* Null where no fibre can go on. */
static fibre *next_fibre(grid &g) {
    if (g.ready == 0)
        return nullptr;
    if (!has_bit(g.ready, g.rank_now) || (g.wanders && random_number(g) % 4 == 0))
        g.rank_now = choose(g, g.ready);
    block &b = g.blocks[static_cast<size_t>(g.rank_now)];
    if (!has_bit(b.ready, b.warp_now) || (g.wanders && random_number(g) % 4 == 0))
        b.warp_now = choose(g, b.ready);
    warp &w = b.warps[static_cast<size_t>(b.warp_now)];
    return &w.lanes[choose(g, w.ready)];
}

static void put_to_sleep(grid &g, const fibre &f) {
    block &b = g.blocks[static_cast<size_t>(f.rank)];
    warp &w = warp_of(b, f.thread);
    w.ready &= ~(1U << (f.thread % WARP));
    if (w.ready == 0)
        b.ready &= ~(1U << (f.thread / WARP));
    if (b.ready == 0)
        g.ready &= ~(1U << f.rank);
}

void wake(grid &g, int rank, int warp, uint32_t lanes) {
    if (lanes == 0)
        return;
    block &b = g.blocks[static_cast<size_t>(rank)];
    b.warps[static_cast<size_t>(warp)].ready |= lanes;
    b.ready |= 1U << warp;
    g.ready |= 1U << rank;
}

/* --- nobody is next ------------------------------------------------------------------------------------- */

/* How many came to where a fibre waits. */
static void describe_wait(grid &g, const fibre &f, char *text, size_t size) {
    block &b = g.blocks[static_cast<size_t>(f.rank)];
    const warp &w = warp_of(b, f.thread);
    if (f.copy != nullptr)
        (void)std::snprintf(text, size, "no copy was begun");
    else if (has_bit(w.in_cluster_wait, f.thread % WARP))
        (void)std::snprintf(text, size, "%d of %d threads of the cluster arrived", g.arrived,
                            cluster_threads(g));
    else if (has_bit(w.came, f.thread % WARP))
        (void)std::snprintf(text, size, "%d of %d lanes of its warp came", __builtin_popcount(w.came), WARP);
    else
        (void)std::snprintf(text, size, "%d of %d threads of the block came", b.arrived, g.shape.threads);
}

/* The first of those who wait stands for all. */
[[noreturn]] static void report_deadlock(grid &g) {
    int waiting = 0;
    fibre *first = nullptr;
    for (block &b : g.blocks)
        for (warp &w : b.warps)
            for (fibre &f : w.lanes)
                if (f.waits_at != nullptr && ++waiting == 1)
                    first = &f;
    if (first == nullptr)
        fail("deadlock of none: the harness is wrong");
    char came[128];
    describe_wait(g, *first, came, sizeof came);
    g.now = first;
    fail("deadlock: waits at %s (%s); so do others, %d in all, and none can go on", first->waits_at, came,
         waiting);
}

/* --- fibres on stacks ----------------------------------------------------------------------------------- */

static void begin_block(grid &g, block &b) {
    b.begun = true;
#if FIBRES_ASAN
    __asan_unpoison_memory_region(b.shared, g.shape.shared_bytes);
#endif
    if (g.shape.shared_bytes > 0)
        std::memset(b.shared, 0xff, g.shape.shared_bytes);
}

/* What other blocks still read there would be gone on a GPU as well. */
static void end_block(const grid &g, block &b) {
    end_copies(b);
    if (g.shape.shared_bytes > 0)
        std::memset(b.shared, 0xff, g.shape.shared_bytes);
#if FIBRES_ASAN
    __asan_poison_memory_region(b.shared, g.shape.shared_bytes);
#endif
}

static void end_fibre(grid &g) {
    fibre &f = *g.now;
    block &b = own_block(g);
    if (b.arrived > 0)
        fail("divergent barrier: returned, while others wait at block_barrier (%d of %d threads of the block "
             "came)",
             b.arrived, g.shape.threads);
    if (f.arrived)
        fail("returned after cluster_arrive without cluster_wait");
    f.ended = true;
    warp_of(b, f.thread).ended |= 1U << (f.thread % WARP);
    put_to_sleep(g, f);
    ++g.ended;
    if (++b.ended == g.shape.threads)
        end_block(g, b);
}

/* What every stack of the pool does. A fibre that has not begun yet takes the stack of the one that ended, so
 * that a kernel without barriers changes stacks once. */
[[noreturn]] static void work_on_fibres() {
    for (;;) {
        grid &g = *running;
        context *const stack = g.now->stack;
        if (!own_block(g).begun)
            begin_block(g, own_block(g));
        g.kernel(g.arguments);
        end_fibre(g);
        g.now->stack = nullptr;
        fibre *const next = next_fibre(g);
        if (next == nullptr && g.ended < cluster_threads(g))
            report_deadlock(g);
        if (next != nullptr && next->stack == nullptr) {
            next->stack = stack;
            g.now = next;
            continue;
        }
        g.now = next;
        stacks.idle.push_back(stack);
        context_go(stack, next != nullptr ? next->stack : &own_stack);
    }
}

/* Apart from need_stack, whose every call would prepare for what happens once. */
[[gnu::noinline]] static void give_stack(fibre &f) {
    if (stacks.idle.empty()) {
        stacks.all.push_back(std::make_unique<context>());
        context_make(stacks.all.back().get(), work_on_fibres);
        stacks.idle.push_back(stacks.all.back().get());
    }
    f.stack = stacks.idle.back();
    stacks.idle.pop_back();
}

static void need_stack(fibre &f) {
    if (f.stack == nullptr)
        give_stack(f);
}

void wait_in(grid &g, const char *function) {
    fibre &self = *g.now;
    self.waits_at = function;
    put_to_sleep(g, self);
    fibre *const next = next_fibre(g);
    if (next == nullptr)
        report_deadlock(g);
    need_stack(*next);
    g.now = next;
    context_go(self.stack, next->stack);
    self.waits_at = nullptr;
}

/* --- a launch ------------------------------------------------------------------------------------------- */

static void reset_block(grid &g, int rank) {
    block &b = g.blocks[static_cast<size_t>(rank)];
    b.warp_now = 0;
    b.begun = false;
    b.ended = 0;
    b.copies.clear();
    for (int thread = 0; thread < g.shape.threads; ++thread) {
        warp &w = warp_of(b, thread);
        if (thread % WARP == 0)
            w = warp();
        w.lanes[thread % WARP].rank = rank;
        w.lanes[thread % WARP].thread = thread;
    }
    for (int i = 0; i < g.shape.threads / WARP; ++i)
        wake(g, rank, i, ~0U);
#if FIBRES_ASAN
    __asan_poison_memory_region(b.shared, g.shape.shared_bytes);
#endif
}

static void run_cluster(grid &g) {
    g.ended = 0;
    g.rank_now = choose(g, g.shape.cluster == 1 ? 1U : (1U << g.shape.cluster) - 1U);
    for (int rank = 0; rank < g.shape.cluster; ++rank) {
        reset_block(g, rank);
        block &b = g.blocks[static_cast<size_t>(rank)];
        b.warp_now = choose(g, b.ready);
    }
    g.now = next_fibre(g);
    need_stack(*g.now);
    context_go(&own_stack, g.now->stack);
}

enum : size_t { ALWAYS_ALLOWED = 48 * 1024 };

/* As a GPU refuses them: cudaErrorNoDevice, cudaErrorInvalidConfiguration. */
static int check_shape(const launch_shape &shape, const fibres_settings &settings) {
    if (settings.capability == 0)
        return 100;
    const bool good_cluster =
        shape.cluster == 1 ||
        ((shape.cluster == 2 || shape.cluster == 4 || shape.cluster == 8) && settings.capability >= 90);
    const bool good_threads =
        shape.threads > 0 && shape.threads <= MOST_BLOCK_THREADS && shape.threads % WARP == 0;
    const bool good_blocks =
        good_cluster && shape.clusters > 0 && shape.clusters <= INT32_MAX / shape.cluster;
    const bool good_memory =
        shape.shared_bytes <= settings.shared_of_block &&
        (shape.shared_bytes <= ALWAYS_ALLOWED || shape.shared_bytes <= shape.shared_limit);
    return good_blocks && good_threads && good_memory ? 0 : 9;
}

static grid make_grid(const launch_shape &shape, const fibres_settings &settings) {
    grid g = {};
    g.shape = shape;
    g.order = settings.order;
    g.wanders = settings.order == FIBRES_SHUFFLED && settings.seed % 2 == 0;
    g.random = (settings.seed + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);
    g.clusters = settings.capability >= 90;
    g.blocks.resize(static_cast<size_t>(shape.cluster));
    for (block &b : g.blocks) {
        b.warps.resize(static_cast<size_t>(shape.threads / WARP));
        void *memory = nullptr;
        if (posix_memalign(&memory, 128, shape.shared_bytes) != 0)
            fail("no shared memory");
        b.shared = static_cast<unsigned char *>(memory);
    }
    return g;
}

int run(const launch_shape &shape, void (*kernel)(const void *), const void *arguments) {
    if (running != nullptr)
        fail("a launch inside a kernel");
    if (shape.clusters == 0)
        return 0;
    const int told = fibres_count_launch();
    const int error = told != 0 ? told : check_shape(shape, *fibres_current_settings());
    if (error != 0)
        return error;
    grid g = make_grid(shape, *fibres_current_settings());
    g.kernel = kernel;
    g.arguments = arguments;
    running = &g;
    for (g.cluster = 0; g.cluster < shape.clusters; ++g.cluster)
        run_cluster(g);
    running = nullptr;
    for (const block &b : g.blocks) {
#if FIBRES_ASAN
        __asan_unpoison_memory_region(b.shared, shape.shared_bytes);
#endif
        std::free(b.shared);
    }
    return 0;
}

} // namespace fibres
