#include "in_child.h"

#include <stdlib.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int run_in_child(int (*function)(int), int argument, char *text, size_t size) {
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    const pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        _exit(function(argument));
    }
    (void)close(ends[1]);
    size_t used = 0;
    char rest[1024];
    for (;;) {
        const ssize_t count =
            used + 1 < size ? read(ends[0], text + used, size - 1 - used) : read(ends[0], rest, sizeof rest);
        if (count <= 0)
            break;
        if (used + 1 < size)
            used += (size_t)count;
    }
    text[used] = '\0';
    (void)close(ends[0]);
    int status = 0;
    (void)waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}
