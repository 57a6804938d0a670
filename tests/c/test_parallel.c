/* How work is shared out among threads: every item once, whoever does it, also where threads cannot be had.
 */
#include "common/parallel.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

/* parallel.c is compiled to call this in place of pthread_create. */
int parallel_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                            void *argument);

enum { PLENTY = 1 << 20 };

static int threads_to_be_had;
static atomic_int threads_asked_for;

int parallel_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                            void *argument) {
    if (atomic_fetch_add(&threads_asked_for, 1) >= threads_to_be_had)
        return EAGAIN;
    return pthread_create(thread, attributes, start, argument);
}

enum { MOST_ITEMS = 1000, MOST_WORKERS = 300 };

/* Every item and every worker has its own place, so that a data race is one of the library's. */
typedef struct record {
    int64_t count, step;
    int threads;
    int times[MOST_ITEMS];
    atomic_int inside[MOST_WORKERS]; /* how many work under this number right now */
    atomic_bool wrong;
    atomic_int pieces;
} record;

static void work(void *context, int64_t first, int64_t end, int worker) {
    record *r = context;
    if (worker < 0 || worker >= r->threads || first < 0 || end <= first || end > r->count ||
        end - first > r->step || first % r->step != 0) {
        atomic_store(&r->wrong, true);
        return;
    }
    if (atomic_fetch_add(&r->inside[worker], 1) != 0)
        atomic_store(&r->wrong, true);
    for (int64_t i = first; i < end; ++i)
        r->times[i] += 1;
    atomic_fetch_add(&r->pieces, 1);
    atomic_fetch_sub(&r->inside[worker], 1);
}

/* What the work is shared out to; NULL: threads of the library's own. */
static visatb_team *team;

static void share_out(int threads, int64_t count, int64_t step) {
    record *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->count = count;
    r->step = step;
    r->threads = threads;
    atomic_store(&threads_asked_for, 0);
    parallel_for(threads, team, count, step, work, r);
    assert_false(atomic_load(&r->wrong));
    for (int64_t i = 0; i < MOST_ITEMS; ++i)
        assert_int_equal(r->times[i], i < count);
    assert_int_equal(atomic_load(&r->pieces), (count + step - 1) / step);
    free(r);
}

static void share_out_in_all_ways(void) {
    static const int threads[] = {1, 2, 3, 7, 64, 256};
    static const int64_t counts[] = {0, 1, 2, 5, 16, 33, 999, 1000};
    static const int64_t steps[] = {1, 2, 7, 16, 1000, 4096};
    for (size_t t = 0; t < sizeof threads / sizeof *threads; ++t)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; ++c)
            for (size_t s = 0; s < sizeof steps / sizeof *steps; ++s)
                share_out(threads[t], counts[c], steps[s]);
}

static void every_item_is_done_once_by_one_of_the_workers(void **state) {
    (void)state;
    share_out_in_all_ways();
}

static void threads_that_cannot_be_had_are_done_without(void **state) {
    (void)state;
    for (threads_to_be_had = 0; threads_to_be_had < 4; ++threads_to_be_had)
        share_out_in_all_ways();
}

static void no_more_threads_are_started_than_there_are_pieces(void **state) {
    (void)state;
    share_out(7, 3, 1);
    assert_int_equal(atomic_load(&threads_asked_for), 2); /* the caller is one */
    share_out(7, 33, 16);
    assert_int_equal(atomic_load(&threads_asked_for), 2);
    share_out(3, 1000, 1);
    assert_int_equal(atomic_load(&threads_asked_for), 2);
    share_out(64, 5, 1000);
    assert_int_equal(atomic_load(&threads_asked_for), 0);
    share_out(64, 0, 1);
    assert_int_equal(atomic_load(&threads_asked_for), 0);
}

/* Work that ends only when each of the threads is at it. */
enum { MEETING = 3 };

typedef struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t somebody_came;
    int there;
    int workers[MEETING];
} meeting;

static void meet(void *context, int64_t first, int64_t end, int worker) {
    meeting *m = context;
    (void)first;
    (void)end;
    pthread_mutex_lock(&m->mutex);
    m->workers[m->there++] = worker;
    pthread_cond_broadcast(&m->somebody_came);
    const struct timespec late = {.tv_sec = time(NULL) + 20};
    while (m->there < MEETING && pthread_cond_timedwait(&m->somebody_came, &m->mutex, &late) == 0) {
    }
    pthread_mutex_unlock(&m->mutex);
}

static void threads_work_at_the_same_time_each_under_its_own_number(void **state) {
    (void)state;
    for (int round = 0; round < 3000; ++round) {
        meeting m = {.mutex = PTHREAD_MUTEX_INITIALIZER, .somebody_came = PTHREAD_COND_INITIALIZER};
        parallel_for(MEETING, NULL, MEETING, 1, meet, &m);
        assert_int_equal(m.there, MEETING);
        assert_int_equal(1 << m.workers[0] | 1 << m.workers[1] | 1 << m.workers[2], 7);
    }
}

/* A caller's pool, as visatb_team describes it: of as many threads as it was asked for, or of others. */
static int team_size;
static unsigned team_was_asked_for;

typedef struct member {
    void (*body)(void *context);
    void *context;
} member;

static void *be_a_member(void *argument) {
    const member *self = argument;
    self->body(self->context);
    return NULL;
}

static void run_team(void (*body)(void *context), void *context, unsigned threads, unsigned flags) {
    assert_int_equal(flags, 0);
    team_was_asked_for = threads;
    member self = {body, context};
    pthread_t others[16] = {0};
    for (int i = 0; i + 1 < team_size; ++i)
        assert_int_equal(pthread_create(&others[i], NULL, be_a_member, &self), 0);
    body(context);
    for (int i = 0; i + 1 < team_size; ++i)
        assert_int_equal(pthread_join(others[i], NULL), 0);
}

static void team_of_the_caller_does_the_work(void **state) {
    (void)state;
    team = run_team;
    for (team_size = 1; team_size <= 9; team_size += 4) {
        team_was_asked_for = 0;
        share_out(5, 1000, 3);
        assert_int_equal(team_was_asked_for, 5);
        /* A pool that is asked for fewer threads than before ends the others. */
        share_out(5, 33, 16);
        assert_int_equal(team_was_asked_for, 5);
    }
    team = NULL;
}

static void team_is_not_called_for_what_one_thread_does(void **state) {
    (void)state;
    team = run_team;
    team_size = 2;
    team_was_asked_for = 0;
    share_out(1, 1000, 3);
    share_out(7, 5, 1000);
    share_out(7, 0, 1);
    assert_int_equal(team_was_asked_for, 0);
    team = NULL;
}

static void number_of_threads_is_what_was_asked_for_or_that_of_the_cpus(void **state) {
    (void)state;
    assert_int_equal(parallel_threads(1), 1);
    assert_int_equal(parallel_threads(7), 7);
    assert_int_equal(parallel_threads(256), 256);
    assert_int_equal(parallel_threads(INT32_MAX), 256);
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    const int cpus = CPU_COUNT(&before);
    assert_int_equal(parallel_threads(0), cpus < 256 ? cpus : 256);

    CPU_ZERO(&one);
    for (size_t cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(parallel_threads(0), 1);
    assert_int_equal(parallel_threads(5), 5);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static int let_threads_be_had(void **state) {
    (void)state;
    threads_to_be_had = PLENTY;
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_item_is_done_once_by_one_of_the_workers, let_threads_be_had),
        cmocka_unit_test_setup(threads_that_cannot_be_had_are_done_without, let_threads_be_had),
        cmocka_unit_test_setup(no_more_threads_are_started_than_there_are_pieces, let_threads_be_had),
        cmocka_unit_test_setup(threads_work_at_the_same_time_each_under_its_own_number, let_threads_be_had),
        cmocka_unit_test_setup(team_of_the_caller_does_the_work, let_threads_be_had),
        cmocka_unit_test_setup(team_is_not_called_for_what_one_thread_does, let_threads_be_had),
        cmocka_unit_test_setup(number_of_threads_is_what_was_asked_for_or_that_of_the_cpus,
                               let_threads_be_had),
    };
    return cmocka_run_group_tests_name("sharing out work", tests, NULL, NULL);
}
