#include "common/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MOST_THREADS = 256 };

typedef struct shared_job {
    parallel_work *work;
    void *context;
    int64_t count;
    int64_t step;
    int64_t most_workers;
    atomic_int_fast64_t next;
    atomic_int workers;
} shared_job;

int parallel_threads(int32_t threads) {
    if (threads > 0)
        return threads < MOST_THREADS ? threads : MOST_THREADS;
    cpu_set_t cpus;
    /* It fails where there are more CPUs than the set has room for, which is above our limit. */
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        return MOST_THREADS;
    const int count = CPU_COUNT(&cpus);
    return count < MOST_THREADS ? count : MOST_THREADS;
}

/* Pieces are taken, not dealt: a thread that is slowed down takes fewer of them. */
static void take_pieces(void *argument) {
    shared_job *job = argument;
    const int worker = atomic_fetch_add(&job->workers, 1);
    /* A team larger than was asked for: there is no memory for this one to work in. */
    if (worker >= job->most_workers)
        return;
    for (;;) {
        const int64_t first = atomic_fetch_add(&job->next, job->step);
        if (first >= job->count)
            return;
        const int64_t end = first + job->step < job->count ? first + job->step : job->count;
        job->work(job->context, first, end, worker);
    }
}

static void *take_pieces_in_thread(void *job) {
    take_pieces(job);
    return NULL;
}

static void run_own_threads(int64_t wanted, shared_job *job) {
    pthread_t others[MOST_THREADS];
    int started = 0;
    while (started + 1 < wanted && pthread_create(&others[started], NULL, take_pieces_in_thread, job) == 0)
        ++started;
    take_pieces(job);
    for (int i = 0; i < started; ++i)
        pthread_join(others[i], NULL);
}

void parallel_for(int threads, visatb_team *team, int64_t count, int64_t step, parallel_work *work,
                  void *context) {
    shared_job job = {.work = work, .context = context, .count = count, .step = step};
    atomic_init(&job.next, 0);
    atomic_init(&job.workers, 0);
    const int64_t pieces = count / step + (count % step != 0);
    const int64_t wanted = pieces < threads ? pieces : threads;
    job.most_workers = wanted;
    if (wanted <= 1)
        take_pieces(&job);
    else if (team != NULL)
        /* The whole of it: GNU OpenMP ends the threads that it is not asked for, to start them again later.
         */
        team(take_pieces, &job, (unsigned)threads, 0);
    else
        run_own_threads(wanted, &job);
}
