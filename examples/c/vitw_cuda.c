/* The VITW loss on a GPU, captured once into a CUDA graph and replayed with other logits and labels: the step
 * of weighted_loss.c, and then one with a label that no vocabulary has, which the report tells of. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <visatb.h>

enum { ROWS = 4, VOCAB = 3, TASKS = 2, MOST_ARRAYS = 8, NO_GPU = 77 };

/* A call, with the GPU's memory that it works on. */
typedef struct step {
    visatb_vitw_loss_args args;
    int64_t *labels; /* args.labels, to write to */
    void *memory[MOST_ARRAYS];
    int arrays;
} step;

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

static void *take(step *s, size_t bytes) {
    void **memory = &s->memory[s->arrays++];
    check(cudaMalloc(memory, bytes));
    return *memory;
}

static void *copy(step *s, const void *host, size_t bytes) {
    void *memory = take(s, bytes);
    check(cudaMemcpy(memory, host, bytes, cudaMemcpyHostToDevice));
    return memory;
}

static void prepare(step *s) {
    static const float logits[ROWS][VOCAB] = {{2, 0, 0}, {0, 1, 0}, {0, 0, 3}, {9, 9, 9}};
    static const int64_t labels[ROWS] = {0, 2, 2, -100}; /* the last token is a prompt's: ignored */
    static const int32_t task_ids[ROWS] = {0, 1, 0, 1};
    static const float task_weights[TASKS] = {0.8F, 1.2F};

    visatb_vitw_loss_args *args = &s->args;
    args->device = VISATB_DEVICE_CUDA;
    args->rows = ROWS;
    args->vocab = VOCAB;
    args->tasks = TASKS;
    args->dtype = VISATB_DTYPE_FLOAT32;
    visatb_loss_plan plan = VISATB_LOSS_PLAN_INIT;
    check_visatb(visatb_vitw_loss_plan(args, &plan));
    printf("%s, %d block(s) of %d threads a row, %zu bytes of workspace\n",
           plan.cuda_path == VISATB_CUDA_ONE_READ ? "one read" : "two reads", (int)plan.cluster,
           (int)plan.threads, plan.workspace_bytes);
    args->workspace = take(s, plan.workspace_bytes);
    args->workspace_bytes = plan.workspace_bytes;
    args->logits = copy(s, logits, sizeof logits);
    args->labels = s->labels = copy(s, labels, sizeof labels);
    args->task_ids = copy(s, task_ids, sizeof task_ids);
    args->task_weights = copy(s, task_weights, sizeof task_weights);
    args->loss = take(s, sizeof *args->loss);
    args->gradient = take(s, sizeof logits);
    args->report = take(s, sizeof *args->report);
}

static cudaGraphExec_t capture(step *s, cudaStream_t stream) {
    cudaGraph_t graph = NULL;
    cudaGraphExec_t captured = NULL;
    s->args.stream = stream;
    check_visatb(visatb_vitw_loss(&s->args)); /* so that the driver has loaded the kernels */
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    check_visatb(visatb_vitw_loss(&s->args));
    check(cudaStreamEndCapture(stream, &graph));
    check(cudaGraphInstantiate(&captured, graph, 0));
    check(cudaGraphDestroy(graph));
    return captured;
}

/* Nothing has waited for the GPU so far; here the host does. */
static void replay(const step *s, cudaGraphExec_t captured, cudaStream_t stream) {
    double loss = 0;
    float gradient[ROWS][VOCAB];
    visatb_report report;
    check(cudaGraphLaunch(captured, stream));
    check(cudaMemcpyAsync(&loss, s->args.loss, sizeof loss, cudaMemcpyDeviceToHost, stream));
    check(cudaMemcpyAsync(gradient, s->args.gradient, sizeof gradient, cudaMemcpyDeviceToHost, stream));
    check(cudaMemcpyAsync(&report, s->args.report, sizeof report, cudaMemcpyDeviceToHost, stream));
    check(cudaStreamSynchronize(stream));
    printf("loss %.6f, report: code %d, row %lld\n", loss, (int)report.code, (long long)report.first_bad_row);
    for (int row = 0; row < ROWS; ++row)
        printf("gradient %d: % .6f % .6f % .6f\n", row, (double)gradient[row][0], (double)gradient[row][1],
               (double)gradient[row][2]);
}

int main(void) {
    static const int64_t other_labels[ROWS] = {0, 2, VOCAB, -100};
    cudaStream_t stream = NULL;
    step s = {.args = VISATB_VITW_LOSS_ARGS_INIT};
    prepare(&s);
    check(cudaStreamCreate(&stream));
    cudaGraphExec_t captured = capture(&s, stream);
    replay(&s, captured, stream);

    check(cudaMemcpy(s.labels, other_labels, sizeof other_labels, cudaMemcpyHostToDevice));
    replay(&s, captured, stream);

    check(cudaGraphExecDestroy(captured));
    check(cudaStreamDestroy(stream));
    for (int i = 0; i < s.arrays; ++i)
        check(cudaFree(s.memory[i]));
    return EXIT_SUCCESS;
}
