/* How a call of the loss of a linear head on a GPU is refused, planned, and made: every bad argument with its
 * words, and nothing written then; how many products there are; and what becomes of a launch or a product
 * that fails. */
#include "cuda_linear_problem.h"
#include "device_memory.h"
#include "fake_cublas.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const linear_shape small = {20, 6, 11};

static visatb_context *context;

/* Of the fake cuBLAS, where that is what was opened. */
static struct {
    int (*products)(void);
    void (*fail_product)(int n);
    void (*fail_creation)(int n);
    int (*handles)(void);
} fake;

static bool find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool find_fake(void) {
    const char *path = getenv("VISATB_CUBLAS"); /* NOLINT(concurrency-mt-unsafe): nobody changes it */
    void *library = path != NULL ? dlopen(path, RTLD_NOW) : NULL;
    return library != NULL && find(library, "fake_cublas_products", &fake.products) &&
           find(library, "fake_cublas_fail_product", &fake.fail_product) &&
           find(library, "fake_cublas_fail_creation", &fake.fail_creation) &&
           find(library, "fake_cublas_handles", &fake.handles);
}

static int create_context(void **state) {
    (void)state;
    if (visatb_context_create(&context) == VISATB_OK)
        return 0;
    print_error("%s\n", visatb_last_error());
    return -1;
}

static int destroy_context(void **state) {
    (void)state;
    visatb_context_destroy(context);
    return 0;
}

/* A call that is set up and not made: each test spoils one thing in p.args. */
static void begin(cuda_linear_problem *p, visatb_dtype dtype) {
    cuda_linear_create(p, context, dtype, small);
    cuda_linear_begin(p);
}

static void end(cuda_linear_problem *p) {
    cuda_linear_end(p);
    cuda_linear_destroy(p);
}

static void assert_all(const void *memory, size_t bytes, int byte) {
    for (size_t i = 0; i < bytes; ++i)
        assert_int_equal(((const unsigned char *)memory)[i], byte);
}

/* Ends the call, of which no output was written. */
static void end_unwritten(cuda_linear_problem *p) {
    cuda_linear_end(p);
    assert_all(&p->host.loss_out, sizeof p->host.loss_out, 0xff);
    assert_all(p->host.hidden_gradient_memory, p->host.hidden_gradient_bytes, 0xff);
    assert_all(&p->host.report, sizeof p->host.report, 0xff);
    cuda_linear_destroy(p);
}

static void refuse_as(cuda_linear_problem *p, visatb_status status, const char *message) {
    char expected[512];
    (void)snprintf(expected, sizeof expected, "visatb_vitw_linear_loss: %s", message);
    assert_int_equal(visatb_vitw_linear_loss(&p->args), status);
    assert_string_equal(visatb_last_error(), expected);
    end_unwritten(p);
}

static void refuse(cuda_linear_problem *p, const char *message) {
    refuse_as(p, VISATB_ERROR_ARGUMENT, message);
}

static void refuse_both(cuda_linear_problem *p, const char *message) {
    char expected[512];
    (void)snprintf(expected, sizeof expected, "visatb_vitw_linear_loss_plan: %s", message);
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    const visatb_linear_plan before = plan;
    assert_int_equal(visatb_vitw_linear_loss_plan(&p->args, &plan), VISATB_ERROR_ARGUMENT);
    assert_string_equal(visatb_last_error(), expected);
    assert_memory_equal(&plan, &before, sizeof plan);
    refuse(p, message);
}

/* ---- refusals ---- */

static void choices_are_known(void **state) {
    (void)state;
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.device = (visatb_device)7;
    refuse_both(&p, "device = 7; expected VISATB_DEVICE_CPU (0) or VISATB_DEVICE_CUDA (1)");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.dtype = VISATB_DTYPE_FLOAT64;
    refuse_both(&p, "dtype = 4 (VISATB_DTYPE_FLOAT64); expected VISATB_DTYPE_FLOAT32 (1), _BFLOAT16 (2) or "
                    "_FLOAT16 (3) on a GPU");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.cuda_path = (visatb_cuda_path)3;
    refuse_both(&p, "cuda_path = 3; expected VISATB_CUDA_AUTO (0), _ONE_READ (1) or _TWO_READ (2)");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.head_gradient_dtype = VISATB_DTYPE_BFLOAT16;
    refuse_both(&p, "head_gradient_dtype = 2; expected 0 or VISATB_DTYPE_FLOAT32 (1)");
    begin(&p, VISATB_DTYPE_BFLOAT16);
    p.args.head_gradient_dtype = VISATB_DTYPE_FLOAT16;
    refuse_both(&p, "head_gradient_dtype = 3; expected 0, VISATB_DTYPE_FLOAT32 (1) or dtype (2)");
}

/* Which writes fp32, into memory that may be too small for it. */
static void cpu_has_no_other_type_for_gradients_of_the_head(void **state) {
    (void)state;
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_BFLOAT16);
    p.args.device = VISATB_DEVICE_CPU;
    p.args.head_gradient_dtype = VISATB_DTYPE_BFLOAT16;
    refuse_both(&p, "head_gradient_dtype = 2; expected 0 or VISATB_DTYPE_FLOAT32 (1), which is what the CPU "
                    "writes");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.device = VISATB_DEVICE_CPU;
    p.args.dtype = VISATB_DTYPE_FLOAT64;
    p.args.head_gradient_dtype = VISATB_DTYPE_FLOAT32;
    refuse_both(&p, "head_gradient_dtype = 1; expected 0 or VISATB_DTYPE_FLOAT64 (4), which is what the CPU "
                    "writes");
}

static void numbers_are_those_of_the_cpu(void **state) {
    (void)state;
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.vocab = 0;
    refuse_both(&p, "vocab = 0; expected a value in [1, 1152921504606846975]");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.hidden_size = (INT64_C(1) << 29) + 1;
    refuse_both(&p, "hidden_size = 536870913; expected a value in [1, 536870912]");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.rows = INT64_C(1) << 40;
    refuse_both(&p, "rows = 1099511627776; expected at most 268435455 on a GPU");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.weight_stride = 5;
    refuse_both(&p, "weight_stride = 5; expected 0 or at least hidden_size (6)");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.accumulate = 2;
    refuse_both(&p, "accumulate = 2; expected 0 or 1");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.chunk_bytes = 255;
    refuse_both(&p, "chunk_bytes = 255; expected at least 256, which one row takes, or 0");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.vocab = INT64_C(1) << 29;
    p.args.chunk_bytes = 0;
    refuse_both(&p, "chunk_bytes = 0; expected at least 2147483648, which one row takes");
}

static void inputs_the_loss_and_a_context_are_required(void **state) {
    (void)state;
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.context = NULL;
    refuse(&p, "context = NULL; expected a context, which visatb_context_create makes");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.weight = NULL;
    refuse(&p, "weight = NULL; expected a pointer");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.hidden = NULL;
    refuse(&p, "hidden = NULL; expected a pointer, because rows = 20");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.task_ids = NULL;
    refuse(&p, "task_ids = NULL; expected a pointer, because rows = 20");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.loss = NULL;
    refuse(&p, "loss = NULL; expected a pointer");
}

static void workspace_is_as_planned_and_separate(void **state) {
    (void)state;
    char message[200];
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_FLOAT32);
    const size_t bytes = p.plan.workspace_bytes;
    p.args.workspace_bytes = bytes - 1;
    (void)snprintf(message, sizeof message,
                   "workspace_bytes = %zu; expected at least %zu, as visatb_vitw_linear_loss_plan tells",
                   bytes - 1, bytes);
    refuse(&p, message);
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.workspace = NULL;
    (void)snprintf(message, sizeof message, "workspace = NULL; expected %zu bytes of memory", bytes);
    refuse(&p, message);
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.row_lse = (float *)p.args.workspace;
    refuse(&p, "workspace overlaps row_lse; expected separate memory");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.weight_gradient = (void *)p.args.weight;
    refuse(&p, "weight_gradient overlaps weight; expected separate memory");
}

/* Of its own type it takes half as much. */
static void gradients_of_the_head_are_as_large_as_their_type(void **state) {
    (void)state;
    const size_t elements = (size_t)(small.vocab * small.hidden_size);
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_BFLOAT16);
    p.args.bias_gradient = (unsigned char *)p.args.weight_gradient + 2 * elements;
    refuse(&p, "bias_gradient overlaps weight_gradient; expected separate memory");
    begin(&p, VISATB_DTYPE_BFLOAT16);
    p.args.head_gradient_dtype = VISATB_DTYPE_BFLOAT16;
    p.args.bias_gradient = (unsigned char *)p.args.weight_gradient + 2 * elements;
    p.status = visatb_vitw_linear_loss(&p.args);
    assert_int_equal(p.status, VISATB_OK);
    end(&p);
}

static void refuse_on_host(size_t offset, const char *name) {
    char message[200];
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_FLOAT32);
    const void *there = device_alloc_on_host(65536);
    memcpy((unsigned char *)&p.args + offset, &there, sizeof there);
    (void)snprintf(message, sizeof message,
                   "%s is in memory of the host; expected memory that the GPU can reach", name);
    refuse(&p, message);
}

#define REFUSE_ON_HOST(field) refuse_on_host(offsetof(visatb_vitw_linear_loss_args, field), #field)

static void arrays_are_where_the_gpu_can_reach_them(void **state) {
    (void)state;
    REFUSE_ON_HOST(loss);
    REFUSE_ON_HOST(hidden);
    REFUSE_ON_HOST(weight);
    REFUSE_ON_HOST(bias);
    REFUSE_ON_HOST(hidden_gradient);
    REFUSE_ON_HOST(weight_gradient);
    REFUSE_ON_HOST(bias_gradient);
    REFUSE_ON_HOST(labels);
    REFUSE_ON_HOST(task_weights);
    REFUSE_ON_HOST(row_nll);
    REFUSE_ON_HOST(report);
}

static void arrays_and_context_are_of_one_device(void **state) {
    (void)state;
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_FLOAT32);
    if (!device_pretend_other(p.args.weight, 1)) {
        end(&p);
        skip();
    }
    refuse(&p, "weight is in memory of device 1; expected that of device 0, where the others are");
    begin(&p, VISATB_DTYPE_FLOAT32);
    (void)device_pretend_other(p.args.loss, 1);
    refuse(&p, "context is of device 0; expected one of device 1, where loss is");
}

static void scalars_of_the_host_have_a_range(void **state) {
    (void)state;
    cuda_linear_problem p;
    double *denominator = NULL;
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.denominator = denominator = device_alloc_on_host(sizeof *denominator);
    *denominator = -1;
    refuse(&p, "*denominator = -1; expected a finite value > 0");
    begin(&p, VISATB_DTYPE_FLOAT32);
    p.args.denominator = denominator = device_alloc_on_host(sizeof *denominator);
    *denominator = 2;
    p.args.reduction = VISATB_REDUCTION_SUM;
    refuse(&p, "*denominator = 2; expected denominator = NULL with VISATB_REDUCTION_SUM");
    begin(&p, VISATB_DTYPE_FLOAT32);
    float *scale = device_alloc_on_host(sizeof *scale);
    p.args.grad_scale = scale;
    *scale = (float)INFINITY;
    refuse(&p, "*grad_scale = inf; expected a finite value");
}

/* ---- the plan ---- */

static void plan_says_what_the_call_will_do(void **state) {
    (void)state;
    static const size_t of_cublas = (size_t)32 << 20;
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_BFLOAT16);
    assert_int_equal(p.plan.chunks, 1);
    assert_int_equal(p.plan.chunk_rows, 128);
    assert_int_equal(p.plan.cpu_path, VISATB_CPU_AUTO);
    assert_true(p.plan.cuda_path == VISATB_CUDA_ONE_READ || p.plan.cuda_path == VISATB_CUDA_TWO_READ);
    assert_true(strncmp(p.plan.product, "cuBLAS ", 7) == 0);
    assert_true(p.plan.workspace_bytes > of_cublas && p.plan.workspace_bytes < of_cublas + 65536);
    end(&p);
}

static void plan_needs_no_array_and_no_context(void **state) {
    (void)state;
    cuda_linear_problem p;
    begin(&p, VISATB_DTYPE_BFLOAT16);
    p.args.chunk_bytes = cuda_linear_bytes_of_rows(&p, 16);
    p.args.head_gradient_dtype = VISATB_DTYPE_BFLOAT16;
    visatb_linear_plan with = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&p.args, &with), VISATB_OK);
    const visatb_vitw_linear_loss_args shape = {
        .size = sizeof shape,
        .rows = p.args.rows,
        .hidden_size = p.args.hidden_size,
        .vocab = p.args.vocab,
        .tasks = p.args.tasks,
        .dtype = p.args.dtype,
        .chunk_bytes = p.args.chunk_bytes,
        .device = VISATB_DEVICE_CUDA,
        .head_gradient_dtype = VISATB_DTYPE_BFLOAT16,
    };
    visatb_linear_plan without = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&shape, &without), VISATB_OK);
    assert_string_equal(without.product, "cuBLAS");
    without.product = with.product;
    assert_memory_equal(&with, &without, sizeof with);
    end(&p);
}

/* [chunks, rows] for so many rows of which so many fit. */
static void assert_chunks(int64_t rows, int64_t fitting, int64_t chunks, int64_t chunk_rows) {
    const visatb_vitw_linear_loss_args args = {
        .size = sizeof args,
        .rows = rows,
        .hidden_size = 8,
        .vocab = 64,
        .tasks = 1,
        .dtype = VISATB_DTYPE_BFLOAT16,
        .chunk_bytes = (size_t)fitting * 128,
        .device = VISATB_DEVICE_CUDA,
    };
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    assert_int_equal(visatb_vitw_linear_loss_plan(&args, &plan), VISATB_OK);
    assert_int_equal(plan.chunks, chunks);
    assert_int_equal(plan.chunk_rows, chunk_rows);
}

static void chunks_are_few_equal_and_of_whole_tiles_where_these_fit(void **state) {
    (void)state;
    assert_chunks(1, 1, 1, 1);
    assert_chunks(1, 8, 1, 8);
    assert_chunks(1, 128, 1, 128);
    assert_chunks(128, 128, 1, 128);
    assert_chunks(129, 128, 2, 128);
    assert_chunks(129, 255, 1, 136);
    assert_chunks(129, 256, 1, 256);
    assert_chunks(100, 7, 15, 7);
    assert_chunks(100, 9, 12, 9);
    assert_chunks(8192, 4096, 2, 4096);
    assert_chunks(8192, 3000, 3, 2816);
}

static void gradient_in_its_own_type_takes_a_sum_only_with_several_chunks(void **state) {
    (void)state;
    cuda_linear_problem p;
    visatb_linear_plan one = VISATB_LINEAR_PLAN_INIT;
    visatb_linear_plan several = VISATB_LINEAR_PLAN_INIT;
    visatb_linear_plan several_fp32 = VISATB_LINEAR_PLAN_INIT;
    static const linear_shape shape = {20, 64, 1000};
    cuda_linear_create(&p, context, VISATB_DTYPE_BFLOAT16, shape);
    visatb_vitw_linear_loss_args args = p.host.args;
    args.device = VISATB_DEVICE_CUDA;
    args.head_gradient_dtype = VISATB_DTYPE_BFLOAT16;
    args.chunk_bytes = cuda_linear_bytes_of_rows(&p, 24);
    assert_int_equal(visatb_vitw_linear_loss_plan(&args, &one), VISATB_OK);
    args.chunk_bytes = cuda_linear_bytes_of_rows(&p, 16);
    assert_int_equal(visatb_vitw_linear_loss_plan(&args, &several), VISATB_OK);
    args.head_gradient_dtype = VISATB_DTYPE_FLOAT32;
    assert_int_equal(visatb_vitw_linear_loss_plan(&args, &several_fp32), VISATB_OK);
    assert_int_equal(one.chunks, 1);
    assert_int_equal(several.chunks, 2);
    assert_true(several_fp32.workspace_bytes < one.workspace_bytes);
    assert_true(several.workspace_bytes >= several_fp32.workspace_bytes + (size_t)(64 + 1) * 1000 * 4);
    cuda_linear_destroy(&p);
}

/* ---- products ---- */

static int products_of(cuda_linear_problem *p) {
    const int before = fake.products();
    cuda_linear_run(p);
    return fake.products() - before;
}

static void only_what_is_wanted_is_multiplied(void **state) {
    (void)state;
    if (fake.products == NULL)
        skip();
    cuda_linear_problem p;
    cuda_linear_create(&p, context, VISATB_DTYPE_BFLOAT16, small);
    visatb_vitw_linear_loss_args *args = &p.host.args;
    assert_int_equal(products_of(&p), 5); /* bias, logits, three gradients */
    args->bias = NULL;
    assert_int_equal(products_of(&p), 4);
    args->bias_gradient = NULL;
    assert_int_equal(products_of(&p), 3);
    args->weight_gradient = NULL;
    assert_int_equal(products_of(&p), 2);
    args->hidden_gradient = NULL;
    assert_int_equal(products_of(&p), 1);
    args->chunk_bytes = cuda_linear_bytes_of_rows(&p, 8);
    assert_int_equal(products_of(&p), 3);
    args->max_valid_rows = 16;
    assert_int_equal(products_of(&p), 2);
    cuda_linear_destroy(&p);
}

/* ---- failures ---- */

static void failed_product_is_told(void **state) {
    (void)state;
    if (fake.products == NULL)
        skip();
    for (int n = 1; n <= 5; ++n) {
        cuda_linear_problem p;
        cuda_linear_create(&p, context, VISATB_DTYPE_BFLOAT16, small);
        fake.fail_product(n);
        cuda_linear_try(&p);
        assert_int_equal(p.status, VISATB_ERROR_DEVICE);
        assert_string_equal(
            visatb_last_error(),
            "visatb_vitw_linear_loss: cuBLAS 99.8.7: cublasGemmEx failed: the function failed to "
            "launch on the GPU (13)");
        cuda_linear_run(&p);
        cuda_linear_destroy(&p);
    }
}

/* In several chunks whose head is rounded at the end, so that everything that can be launched is. */
static void failed_launch_is_told(void **state) {
    (void)state;
    if (!device_fail_launch(0))
        skip();
    static const char function[] = "visatb_vitw_linear_loss: ";
    int failed = 0;
    cuda_linear_problem p;
    cuda_linear_create(&p, context, VISATB_DTYPE_FLOAT16, small);
    p.host.args.head_gradient_dtype = VISATB_DTYPE_FLOAT16;
    p.host.args.chunk_bytes = cuda_linear_bytes_of_rows(&p, 16);
    do {
        (void)device_fail_launch((size_t)failed + 1);
        cuda_linear_try(&p);
        if (p.status == VISATB_ERROR_DEVICE)
            assert_true(strncmp(visatb_last_error(), function, strlen(function)) == 0);
    } while (p.status == VISATB_ERROR_DEVICE && ++failed < 1000);
    (void)device_fail_launch(0);
    assert_int_equal(p.status, VISATB_OK);
    /* count, ones, 2 (gather, loss, forget, scatter), 2 roundings, clear, 2 of the sums */
    assert_int_equal(failed, 15);
    cuda_linear_destroy(&p);
}

static void failed_creation_is_told_and_leaves_nothing(void **state) {
    (void)state;
    if (fake.products == NULL)
        skip();
    visatb_context *created = NULL;
    const int handles = fake.handles();
    fake.fail_creation(1);
    assert_int_equal(visatb_context_create(&created), VISATB_ERROR_DEVICE);
    assert_string_equal(
        visatb_last_error(),
        "visatb_context_create: cuBLAS 99.8.7: cublasCreate failed: the library was not initialized (1)");
    assert_null(created);
    assert_int_equal(fake.handles(), handles);
    assert_int_equal(visatb_context_create(&created), VISATB_OK);
    assert_int_equal(fake.handles(), handles + 1);
    visatb_context_destroy(created);
    assert_int_equal(fake.handles(), handles);
}

static void contexts_need_a_place_and_may_be_null(void **state) {
    (void)state;
    assert_int_equal(visatb_context_create(NULL), VISATB_ERROR_ARGUMENT);
    assert_string_equal(visatb_last_error(), "visatb_context_create: context = NULL; expected a pointer");
    visatb_context_destroy(NULL);
}

int main(void) {
    (void)find_fake();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_are_known),
        cmocka_unit_test(cpu_has_no_other_type_for_gradients_of_the_head),
        cmocka_unit_test(numbers_are_those_of_the_cpu),
        cmocka_unit_test(inputs_the_loss_and_a_context_are_required),
        cmocka_unit_test(workspace_is_as_planned_and_separate),
        cmocka_unit_test(gradients_of_the_head_are_as_large_as_their_type),
        cmocka_unit_test(arrays_are_where_the_gpu_can_reach_them),
        cmocka_unit_test(arrays_and_context_are_of_one_device),
        cmocka_unit_test(scalars_of_the_host_have_a_range),
        cmocka_unit_test(plan_says_what_the_call_will_do),
        cmocka_unit_test(plan_needs_no_array_and_no_context),
        cmocka_unit_test(chunks_are_few_equal_and_of_whole_tiles_where_these_fit),
        cmocka_unit_test(gradient_in_its_own_type_takes_a_sum_only_with_several_chunks),
        cmocka_unit_test(only_what_is_wanted_is_multiplied),
        cmocka_unit_test(failed_product_is_told),
        cmocka_unit_test(failed_launch_is_told),
        cmocka_unit_test(failed_creation_is_told_and_leaves_nothing),
        cmocka_unit_test(contexts_need_a_place_and_may_be_null),
    };
    return cmocka_run_group_tests_name("calls of the loss of a linear head on a GPU", tests, create_context,
                                       destroy_context);
}
