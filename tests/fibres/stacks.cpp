#include "stacks.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <sys/mman.h>
#include <unistd.h>

#if FIBRES_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace fibres {

static const size_t STACK_BYTES = size_t{FIBRES_ASAN ? 128 : 64} * 1024;

/* Who is being left while a stack is changed, and what the new stack begins with. */
static thread_local context *leaving;
static thread_local void (*beginning)();

static void before_going(context *from, const context *to) {
    leaving = from;
#if FIBRES_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->bytes);
#else
    (void)to;
#endif
}

static void after_coming(const context *to) {
#if FIBRES_ASAN
    const void *bottom = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(to != nullptr ? to->fake_stack : nullptr, &bottom, &bytes);
    leaving->bottom = bottom;
    leaving->bytes = bytes;
#else
    (void)to;
#endif
}

static void begin() {
    after_coming(nullptr);
    beginning();
}

#if FIBRES_ASSEMBLY

/* Saves what a function must preserve on the old stack and takes it from the new one; a fresh stack has
 * zeros there, and the address of `begin` to return to. */
extern "C" void fibres_change_stack(void **old_pointer, void *new_pointer);
asm(R"(
    .text
    .globl fibres_change_stack
    .hidden fibres_change_stack
    .type fibres_change_stack, @function
fibres_change_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size fibres_change_stack, . - fibres_change_stack
)");

static void prepare(context *c, char *stack) {
    enum { SAVED = 6 };
    /* A function begins 8 bytes below a multiple of 16, where its return address is; here there is none. */
    void **const top = reinterpret_cast<void **>(stack + STACK_BYTES) - 1;
    top[-1] = reinterpret_cast<void *>(begin);
    c->stack_pointer = top - 1 - SAVED;
}

static void change_stack(context *from, context *to) {
    fibres_change_stack(&from->stack_pointer, to->stack_pointer);
}

#else

static void prepare(context *c, char *stack) {
    (void)getcontext(&c->registers);
    c->registers.uc_stack.ss_sp = stack;
    c->registers.uc_stack.ss_size = STACK_BYTES;
    c->registers.uc_link = nullptr;
    makecontext(&c->registers, begin, 0);
}

static void change_stack(context *from, context *to) {
    (void)swapcontext(&from->registers, &to->registers);
}

#endif

static size_t guard_bytes() {
    return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

void context_make(context *c, void (*work)()) {
    beginning = work;
    const size_t guard = guard_bytes();
    void *const memory = mmap(nullptr, guard + STACK_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
        std::perror("fibres: no memory for a stack");
        std::abort();
    }
    char *const stack = static_cast<char *>(memory) + guard;
    c->bottom = stack;
    c->bytes = STACK_BYTES;
    prepare(c, stack);
}

void context_free(context *c) {
    char *const stack = static_cast<char *>(const_cast<void *>(c->bottom));
#if FIBRES_ASAN
    /* It was left in the middle of functions, whose traps would wait for the next owner of the addresses. */
    __asan_unpoison_memory_region(stack, c->bytes);
#endif
    (void)munmap(stack - guard_bytes(), guard_bytes() + c->bytes);
}

void context_go(context *from, context *to) {
    before_going(from, to);
    change_stack(from, to);
    after_coming(from);
}

} // namespace fibres
