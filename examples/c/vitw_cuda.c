/* The VITW loss on a GPU, captured once into a CUDA graph and replayed with other logits and labels: the step
 * of weighted_loss.c, and then one with a label that no vocabulary has, which the report tells of. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <visatb.h>

enum { ROWS = 4, VOCAB = 3, TASKS = 2, NO_GPU = 77 };

static void check(cudaError_t error) {
    if (error == cudaSuccess)
        return;
    (void)fprintf(stderr, "%s\n", cudaGetErrorString(error));
    exit(EXIT_FAILURE);
}

static void check_visatb(visatb_status status) {
    if (status == VISATB_OK)
        return;
    (void)fprintf(stderr, "%s\n", visatb_last_error());
    exit(status == VISATB_ERROR_UNSUPPORTED ? NO_GPU : EXIT_FAILURE);
}

static void *device_memory(size_t bytes) {
    void *memory = NULL;
    check(cudaMalloc(&memory, bytes));
    return memory;
}

static void *device_copy(const void *host, size_t bytes) {
    void *memory = device_memory(bytes);
    check(cudaMemcpy(memory, host, bytes, cudaMemcpyHostToDevice));
    return memory;
}

/* A call whose arrays are on the GPU, the results too. */
static visatb_vitw_loss_args prepare(void) {
    static const float logits[ROWS][VOCAB] = {{2, 0, 0}, {0, 1, 0}, {0, 0, 3}, {9, 9, 9}};
    static const int64_t labels[ROWS] = {0, 2, 2, -100}; /* the last token is a prompt's: ignored */
    static const int32_t task_ids[ROWS] = {0, 1, 0, 1};
    static const float task_weights[TASKS] = {0.8F, 1.2F};

    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.device = VISATB_DEVICE_CUDA;
    args.rows = ROWS;
    args.vocab = VOCAB;
    args.tasks = TASKS;
    args.dtype = VISATB_DTYPE_FLOAT32;
    visatb_loss_plan plan = VISATB_LOSS_PLAN_INIT;
    check_visatb(visatb_vitw_loss_plan(&args, &plan));
    printf("%s, %d block(s) of %d threads a row, %zu bytes of workspace\n",
           plan.cuda_path == VISATB_CUDA_ONE_READ ? "one read" : "two reads", (int)plan.cluster,
           (int)plan.threads, plan.workspace_bytes);
    args.workspace = device_memory(plan.workspace_bytes);
    args.workspace_bytes = plan.workspace_bytes;
    args.logits = device_copy(logits, sizeof logits);
    args.labels = device_copy(labels, sizeof labels);
    args.task_ids = device_copy(task_ids, sizeof task_ids);
    args.task_weights = device_copy(task_weights, sizeof task_weights);
    args.loss = device_memory(sizeof *args.loss);
    args.gradient = device_memory(sizeof logits);
    args.report = device_memory(sizeof *args.report);
    return args;
}

static cudaGraphExec_t capture(visatb_vitw_loss_args *args, cudaStream_t stream) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t step = NULL;
    args->stream = stream;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    check_visatb(visatb_vitw_loss(args));
    check(cudaStreamEndCapture(stream, &graph));
    check(cudaGraphInstantiate(&step, graph, 0));
    check(cudaGraphDestroy(graph));
    return step;
}

/* Nothing has waited for the GPU so far; here the host does. */
static void replay(const visatb_vitw_loss_args *args, cudaGraphExec_t step, cudaStream_t stream) {
    double loss = 0;
    float gradient[ROWS][VOCAB];
    visatb_report report;
    check(cudaGraphLaunch(step, stream));
    check(cudaMemcpyAsync(&loss, args->loss, sizeof loss, cudaMemcpyDeviceToHost, stream));
    check(cudaMemcpyAsync(gradient, args->gradient, sizeof gradient, cudaMemcpyDeviceToHost, stream));
    check(cudaMemcpyAsync(&report, args->report, sizeof report, cudaMemcpyDeviceToHost, stream));
    check(cudaStreamSynchronize(stream));
    printf("loss %.6f, report: code %d, row %lld\n", loss, (int)report.code, (long long)report.first_bad_row);
    for (int row = 0; row < ROWS; ++row)
        printf("gradient %d: % .6f % .6f % .6f\n", row, (double)gradient[row][0], (double)gradient[row][1],
               (double)gradient[row][2]);
}

static void release(const visatb_vitw_loss_args *args) {
    const void *const memory[] = {args->workspace,    args->logits, args->labels,   args->task_ids,
                                  args->task_weights, args->loss,   args->gradient, args->report};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; ++i)
        check(cudaFree((void *)(uintptr_t)memory[i]));
}

int main(void) {
    cudaStream_t stream = NULL;
    visatb_vitw_loss_args args = prepare();
    check(cudaStreamCreate(&stream));
    const cudaGraphExec_t step = capture(&args, stream);
    replay(&args, step, stream);

    static const int64_t other_labels[ROWS] = {0, 2, VOCAB, -100};
    check(cudaMemcpy((void *)(uintptr_t)args.labels, other_labels, sizeof other_labels,
                     cudaMemcpyHostToDevice));
    replay(&args, step, stream);

    check(cudaGraphExecDestroy(step));
    check(cudaStreamDestroy(stream));
    release(&args);
    return EXIT_SUCCESS;
}
