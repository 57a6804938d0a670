/* Stacks, and going from one to another. */
#ifndef VISATB_TESTS_FIBRES_STACKS_H
#define VISATB_TESTS_FIBRES_STACKS_H

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define FIBRES_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBRES_ASAN 1
#endif
#endif
#ifndef FIBRES_ASAN
#define FIBRES_ASAN 0
#endif

/* swapcontext makes two system calls each time; where there is no assembly for the machine, it is used. */
#if defined(__x86_64__) && !defined(FIBRES_UCONTEXT)
#define FIBRES_ASSEMBLY 1
#else
#define FIBRES_ASSEMBLY 0
#include <ucontext.h>
#endif

namespace fibres {

/* A stack, and the place where it was left. */
struct context {
    const void *bottom =
        nullptr; /* lowest address; of a thread's own stack: for ASan, known once it is left */
    size_t bytes = 0;
    void *fake_stack = nullptr; /* ASan's */
#if FIBRES_ASSEMBLY
    void *stack_pointer = nullptr;
#else
    ucontext_t registers = {};
#endif
};

/* Makes one on a new stack, of which `work`, which never returns, begins when it is first gone to. */
void context_make(context *c, void (*work)());
void context_free(context *c);

/* Returns when someone goes back to `from`. */
void context_go(context *from, context *to);

} // namespace fibres

#endif
