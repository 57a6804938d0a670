/* The sum over ranks through an NCCL that adds up on the host (fake_nccl.c), a thread for each rank; what is
 * refused; and the step that it is for: two ranks of two micro-batches have the gradients of one batch. */
#include "cuda/runtime.h"
#include "expect.h"
#include "fake_nccl.h"
#include "fibres_control.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the fake's own functions ---------------------------------------------------------------------------
 */

static struct {
    void (*create)(int ranks, const int *devices, void **comms);
    void (*destroy)(int ranks, void **comms);
    void (*fail_sum)(void *comm, int n);
    void (*take_time)(void *comm, int times);
    void *(*stream)(void *comm);
} fake;

static void find(void *library, const char *name, void *place) {
    void *symbol = dlsym(library, name);
    if (symbol == NULL)
        abort();
    memcpy(place, &symbol, sizeof symbol);
}

static void open_fake(void) {
    void *library = dlopen(getenv("VISATB_NCCL"), RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        abort();
    find(library, "fake_nccl_create", &fake.create);
    find(library, "fake_nccl_destroy", &fake.destroy);
    find(library, "fake_nccl_fail", &fake.fail_sum);
    find(library, "fake_nccl_take_time", &fake.take_time);
    find(library, "fake_nccl_stream", &fake.stream);
}

/* --- ranks, a thread each --------------------------------------------------------------------------------
 */

enum { MOST_RANKS = 4, VALUES = 3, TOKENS = 2 };

typedef struct rank {
    void *comm;
    double values[VALUES];
    int64_t tokens[TOKENS];
    int64_t values_count;
    int64_t tokens_count;
    visatb_status status;
    char message[256];
    int device_after;
} rank;

static void *sum_of_rank(void *argument) {
    rank *of = argument;
    cuda_device device = {.ordinal = -1};
    of->status = visatb_sum_over_ranks(of->values, of->values_count, of->tokens, of->tokens_count, of->comm,
                                       &of->device_after);
    (void)snprintf(of->message, sizeof of->message, "%s", visatb_last_error());
    (void)runtime_device("test", &device);
    of->device_after = device.ordinal;
    return NULL;
}

static void make_ranks(int count, const int *devices, rank *ranks) {
    void *comms[MOST_RANKS];
    fake.create(count, devices, comms);
    for (int i = 0; i < count; ++i) {
        ranks[i] = (rank){
            .comm = comms[i],
            .values = {1 + i, 0.25 * i, -1e300},
            .tokens = {INT64_C(1) << 60, i},
            .values_count = VALUES,
            .tokens_count = TOKENS,
        };
        if (devices != NULL)
            fibres_memory_of_device(&ranks[i], sizeof ranks[i], devices[i]);
    }
}

static void sum(int count, rank *ranks) {
    pthread_t threads[MOST_RANKS];
    for (int i = 0; i < count; ++i)
        if (pthread_create(&threads[i], NULL, sum_of_rank, &ranks[i]) != 0)
            abort();
    for (int i = 0; i < count; ++i)
        (void)pthread_join(threads[i], NULL);
}

static void forget_ranks(int count, const rank *ranks) {
    void *comms[MOST_RANKS];
    for (int i = 0; i < count; ++i)
        comms[i] = ranks[i].comm;
    fake.destroy(count, comms);
}

static int forget_memory(void **state) {
    (void)state;
    fibres_forget_memory();
    return 0;
}

static void expect_message(const rank *of, visatb_status status, const char *message) {
    assert_int_equal(of->status, status);
    assert_string_equal(of->message, message);
}

/* --- sums ---------------------------------------------------------------------------------------------- */

/* Integers are summed as integers: 2^60 + 1 is no double. */
static void every_rank_has_the_sum_of_all(void **state) {
    (void)state;
    for (int count = 1; count <= MOST_RANKS; ++count) {
        rank ranks[MOST_RANKS];
        make_ranks(count, NULL, ranks);
        sum(count, ranks);
        for (int i = 0; i < count; ++i) {
            const int others = count * (count - 1) / 2;
            assert_int_equal(ranks[i].status, VISATB_OK);
            assert_true(ranks[i].values[0] == count + others && ranks[i].values[1] == 0.25 * others &&
                        ranks[i].values[2] == -1e300 * count);
            assert_true(ranks[i].tokens[0] == count * (INT64_C(1) << 60) && ranks[i].tokens[1] == others);
            assert_ptr_equal(fake.stream(ranks[i].comm), &ranks[i].device_after);
        }
        forget_ranks(count, ranks);
    }
}

static void either_array_may_be_absent(void **state) {
    (void)state;
    rank ranks[2];
    make_ranks(2, NULL, ranks);
    ranks[0].values_count = ranks[1].values_count = 0;
    sum(2, ranks);
    assert_true(ranks[0].status == VISATB_OK && ranks[0].values[0] == 1 && ranks[0].tokens[1] == 1);
    ranks[0].values_count = ranks[1].values_count = 1;
    ranks[0].tokens_count = ranks[1].tokens_count = 0;
    sum(2, ranks);
    assert_true(ranks[1].status == VISATB_OK && ranks[1].values[0] == 3 && ranks[1].values[1] == 0.25 &&
                ranks[1].tokens[1] == 1);
    forget_ranks(2, ranks);
}

/* The second sum of the call would be refused while the first is in progress. */
static void communicators_need_not_block(void **state) {
    (void)state;
    rank ranks[2];
    make_ranks(2, NULL, ranks);
    fake.take_time(ranks[0].comm, 1);
    fake.take_time(ranks[1].comm, 3);
    sum(2, ranks);
    for (int i = 0; i < 2; ++i) {
        assert_int_equal(ranks[i].status, VISATB_OK);
        assert_true(ranks[i].values[0] == 3 && ranks[i].tokens[1] == 1);
    }
    forget_ranks(2, ranks);
}

static void ranks_have_devices_of_their_own(void **state) {
    (void)state;
    static const int devices[] = {1, 0};
    rank ranks[2];
    make_ranks(2, devices, ranks);
    sum(2, ranks);
    for (int i = 0; i < 2; ++i) {
        assert_int_equal(ranks[i].status, VISATB_OK);
        assert_true(ranks[i].values[0] == 3);
        assert_int_equal(ranks[i].device_after, 0);
    }
    forget_ranks(2, ranks);
}

/* --- what is refused -------------------------------------------------------------------------------------
 */

static void memory_is_that_of_the_communicators_device(void **state) {
    (void)state;
    rank ranks[1];
    make_ranks(1, NULL, ranks);
    rank *one = &ranks[0];
    fibres_host_memory(one->values, sizeof one->values);
    sum(1, ranks);
    expect_message(one, VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: values is in memory of the host; expected memory that the GPU can "
                   "reach");
    fibres_forget_memory();
    fibres_host_memory(one->tokens, sizeof one->tokens);
    sum(1, ranks);
    expect_message(one, VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: tokens is in memory of the host; expected memory that the GPU can "
                   "reach");
    fibres_forget_memory();
    fibres_memory_of_device(one->tokens, sizeof one->tokens, 1);
    sum(1, ranks);
    expect_message(one, VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: tokens is in memory of device 1; expected that of device 0, where "
                   "the others are");
    one->values_count = 0;
    sum(1, ranks);
    expect_message(one, VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: tokens is in memory of device 1; expected that of device 0, where "
                   "comm is");
    fibres_memory_of_device(one->values, sizeof one->values, 1);
    one->values_count = 1;
    sum(1, ranks);
    expect_message(one, VISATB_ERROR_ARGUMENT,
                   "visatb_sum_over_ranks: values is in memory of device 1; expected that of device 0, where "
                   "comm is");
    assert_true(one->values[0] == 1 && one->tokens[1] == 0);
    forget_ranks(1, ranks);
}

static void arrays_are_aligned_to_their_elements(void **state) {
    (void)state;
    double room[2] = {0};
    int64_t communicator = 0;
    unsigned char *off = (unsigned char *)room + 4;
    char message[160];
    (void)snprintf(message, sizeof message,
                   "visatb_sum_over_ranks: values = %p; expected a multiple of 8, the bytes of an element",
                   (void *)off);
    expect_failure(visatb_sum_over_ranks((double *)(void *)off, 1, NULL, 0, &communicator, NULL),
                   VISATB_ERROR_ARGUMENT, message);
    (void)snprintf(message, sizeof message,
                   "visatb_sum_over_ranks: tokens = %p; expected a multiple of 8, the bytes of an element",
                   (void *)off);
    expect_failure(visatb_sum_over_ranks(NULL, 0, (int64_t *)(void *)off, 1, &communicator, NULL),
                   VISATB_ERROR_ARGUMENT, message);
}

static void what_nccl_says_is_told(void **state) {
    (void)state;
    static const char *const failed =
        "visatb_sum_over_ranks: NCCL 2.98.7: ncclAllReduce failed: unhandled cuda error (run with "
        "NCCL_DEBUG=INFO for details) (1)";
    rank ranks[1];
    make_ranks(1, NULL, ranks);
    for (int n = 1; n <= 2; ++n) { /* the values, the tokens */
        fake.fail_sum(ranks[0].comm, n);
        sum(1, ranks);
        expect_message(&ranks[0], VISATB_ERROR_DEVICE, failed);
    }
    sum(1, ranks);
    assert_int_equal(ranks[0].status, VISATB_OK);
    forget_ranks(1, ranks);

    int64_t no_communicator[16] = {0};
    double value = 1;
    expect_failure(visatb_sum_over_ranks(&value, 1, NULL, 0, no_communicator, NULL), VISATB_ERROR_DEVICE,
                   "visatb_sum_over_ranks: NCCL 2.98.7: ncclCommCuDevice failed: invalid argument (run with "
                   "NCCL_DEBUG=WARN for details) (4)");
    assert_true(value == 1);
}

/* Also where it is found after the call has returned. */
static void ranks_that_differ_are_an_error_of_nccl(void **state) {
    (void)state;
    rank ranks[2];
    make_ranks(2, NULL, ranks);
    ranks[0].values_count = 1;
    fake.take_time(ranks[0].comm, 2);
    sum(2, ranks);
    for (int i = 0; i < 2; ++i)
        expect_message(&ranks[i], VISATB_ERROR_DEVICE,
                       "visatb_sum_over_ranks: NCCL 2.98.7: ncclAllReduce failed: invalid usage (run with "
                       "NCCL_DEBUG=WARN for details) (5)");
    forget_ranks(2, ranks);
}

/* --- a step ----------------------------------------------------------------------------------------------
 */

enum { RANKS = 2, BATCHES = 2, ROWS = 5, ALL_ROWS = RANKS * BATCHES * ROWS, VOCAB = 7, TASKS = 2 };

typedef struct step {
    float logits[ALL_ROWS][VOCAB];
    int64_t labels[ALL_ROWS];
    int32_t task_ids[ALL_ROWS];
    float weights[TASKS];
    float gradient[ALL_ROWS][VOCAB];
    float grad_scale;
} step;

/* Micro-batches of unlike weight: the more rows are valid the later they come. */
static void make_step(step *s) {
    *s = (step){.weights = {0.4F, 1.7F}, .grad_scale = RANKS};
    for (int row = 0; row < ALL_ROWS; ++row) {
        s->labels[row] = row % ROWS > row / ROWS ? -100 : row % VOCAB;
        s->task_ids[row] = row % 3 == 0;
        for (int i = 0; i < VOCAB; ++i)
            s->logits[row][i] = (float)(row * 5 % 11) / 4 - (float)(i * 3 % 5);
    }
}

static visatb_vitw_loss_args rows_of(step *s, int first, int rows, double *loss) {
    static unsigned char workspace[4096];
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = rows;
    args.vocab = VOCAB;
    args.tasks = TASKS;
    args.logits = s->logits[first];
    args.dtype = VISATB_DTYPE_FLOAT32;
    args.labels = &s->labels[first];
    args.task_ids = &s->task_ids[first];
    args.task_weights = s->weights;
    args.loss = loss;
    args.gradient = s->gradient[first];
    args.device = VISATB_DEVICE_CUDA;
    args.workspace = workspace;
    args.workspace_bytes = sizeof workspace;
    return args;
}

static void count_step(step *s, int first, rank *of) {
    for (int batch = 0; batch < BATCHES; ++batch) {
        visatb_vitw_loss_args args = rows_of(s, first + batch * ROWS, ROWS, NULL);
        args.denominator_out = &of->values[0];
        args.task_tokens = of->tokens;
        expect_ok(visatb_vitw_denominator(&args, batch > 0));
    }
}

static double loss_of_step(step *s, int first, const rank *of) {
    double sum_of_losses = 0;
    for (int batch = 0; batch < BATCHES; ++batch) {
        double loss = 0;
        visatb_vitw_loss_args args = rows_of(s, first + batch * ROWS, ROWS, &loss);
        args.denominator = &of->values[0];
        args.grad_scale = &s->grad_scale;
        expect_ok(visatb_vitw_loss(&args));
        sum_of_losses += loss;
    }
    return sum_of_losses;
}

static void two_ranks_of_two_micro_batches_are_one_batch(void **state) {
    (void)state;
    step apart;
    step whole;
    rank ranks[RANKS];
    double loss = 0;
    double sum_of_losses = 0;
    int64_t tokens[TASKS];
    make_step(&apart);
    make_step(&whole);
    visatb_vitw_loss_args args = rows_of(&whole, 0, ALL_ROWS, &loss);
    args.task_tokens = tokens;
    expect_ok(visatb_vitw_loss(&args));
    make_ranks(RANKS, NULL, ranks);
    for (int i = 0; i < RANKS; ++i) {
        count_step(&apart, i * BATCHES * ROWS, &ranks[i]);
        ranks[i].values_count = 1;
        ranks[i].tokens_count = TASKS;
    }
    sum(RANKS, ranks);
    for (int i = 0; i < RANKS; ++i) {
        assert_int_equal(ranks[i].status, VISATB_OK);
        assert_memory_equal(ranks[i].tokens, tokens, sizeof tokens);
        sum_of_losses += loss_of_step(&apart, i * BATCHES * ROWS, &ranks[i]);
    }
    expect_close(sum_of_losses, loss, 1e-12 * loss);
    assert_true(loss > 0);
    /* Averaged over ranks, a gradient of R times its size is that of the whole batch. */
    for (int row = 0; row < ALL_ROWS; ++row)
        for (int i = 0; i < VOCAB; ++i)
            expect_close((double)apart.gradient[row][i] / RANKS, (double)whole.gradient[row][i], 1e-9);
    forget_ranks(RANKS, ranks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_has_the_sum_of_all),
        cmocka_unit_test(either_array_may_be_absent),
        cmocka_unit_test(communicators_need_not_block),
        cmocka_unit_test_teardown(ranks_have_devices_of_their_own, forget_memory),
        cmocka_unit_test_teardown(memory_is_that_of_the_communicators_device, forget_memory),
        cmocka_unit_test(arrays_are_aligned_to_their_elements),
        cmocka_unit_test(what_nccl_says_is_told),
        cmocka_unit_test(ranks_that_differ_are_an_error_of_nccl),
        cmocka_unit_test(two_ranks_of_two_micro_batches_are_one_batch),
    };
    open_fake();
    return cmocka_run_group_tests_name("the sum over ranks", tests, NULL, NULL);
}
