/* Trains a small language model on texts of several tasks, with the weights of a weights.json and the linear
 * VITW loss: what a C trainer does with libvisatb, whole, and nothing but libvisatb and libm.
 *
 *     train_language_model WEIGHTS.json STEPS NAME=FILE[@PART] NAME=FILE[@PART] ...
 *
 * The model reads the last CONTEXT bytes and predicts the next: their embeddings, side by side, go through
 * one layer of tanh (the hidden state) and the head. libvisatb does the head, the loss, and the gradients of
 * both; the two layers below are done here. The first bytes of every sequence have no context yet: like the
 * prompt of a chat, they are fed and not trained on. The last tenth of every file is for validation; PART, 1
 * if not given, is how much of the rest is trained on. WEIGHTS.json may be `equal`: every weight is 1. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <visatb.h>

enum {
    BYTES = 256, /* the vocabulary */
    CONTEXT = 8,
    EMBEDDING = 16,
    INPUT = CONTEXT * EMBEDDING,
    HIDDEN = 128,
    SEQUENCE = 64,
    SEQUENCES = 16, /* a batch */
    ROWS = SEQUENCE * SEQUENCES,
    MOST_TASKS = 16,
    REPORTS = 10,
    IGNORED = -100,
};

typedef struct text_task {
    const char *name;
    unsigned char *text;
    size_t train;      /* bytes to train on */
    size_t validation; /* where that part begins */
    size_t size;
} text_task;

/* A matrix that is trained, with its gradient and Adam's two moments. */
typedef struct parameter {
    size_t count;
    float *value;
    float *gradient;
    float *first;
    float *second;
} parameter;

typedef struct model {
    parameter embedding; /* [BYTES, EMBEDDING] */
    parameter layer;     /* [HIDDEN, INPUT] */
    parameter layer_bias;
    parameter head; /* [BYTES, HIDDEN] */
    parameter head_bias;
} model;

typedef struct batch {
    unsigned char context[ROWS][CONTEXT];
    int64_t labels[ROWS];
    int32_t task_ids[ROWS];
    float input[ROWS][INPUT];
    float hidden[ROWS][HIDDEN];
    float hidden_gradient[ROWS][HIDDEN];
    double task_nll[MOST_TASKS];
    int64_t task_tokens[MOST_TASKS];
    double loss;
} batch;

typedef struct trainer {
    size_t tasks;
    text_task task[MOST_TASKS];
    float weights[MOST_TASKS]; /* lambda, from weights.json, in the order of the command line */
    model model;
    batch batch;
    void *workspace;
    size_t workspace_bytes;
} trainer;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "train_language_model: %s%s\n", what, why);
    exit(EXIT_FAILURE);
}

static void check(visatb_status status) {
    if (status != VISATB_OK)
        fail("", visatb_last_error());
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("out of memory", "");
    return memory;
}

/* The same numbers on every machine. */
static double uniform(void) {
    static unsigned long long state = 1;
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return ldexp((double)(state >> 11), -53);
}

/* ---- texts ---- */

static void read_text(text_task *task, char *argument) {
    char *const equals = strchr(argument, '=');
    if (equals == NULL)
        fail("expected NAME=FILE, got ", argument);
    *equals = '\0';
    task->name = argument;
    const char *path = equals + 1;
    char *at = strrchr(path, '@');
    const double part = at != NULL ? strtod(at + 1, NULL) : 1;
    if (at != NULL)
        *at = '\0';
    if (!(part > 0 && part <= 1))
        fail("the part of a text is above 0 and at most 1: ", at + 1);
    FILE *file = fopen(path, "rb");
    long size = -1;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 20L * SEQUENCE)
        fail("cannot be read, or is too short: ", path);
    rewind(file);
    task->size = (size_t)size;
    task->text = allocate(task->size, 1);
    if (fread(task->text, 1, task->size, file) != task->size)
        fail("cannot be read: ", path);
    fclose(file);
    task->validation = task->size - task->size / 10;
    task->train = (size_t)(part * (double)task->validation);
    if (task->train <= SEQUENCE)
        fail("too little of it to train on: ", path);
}

static size_t train_bytes(const trainer *t) {
    size_t bytes = 0;
    for (size_t i = 0; i < t->tasks; i++)
        bytes += t->task[i].train;
    return bytes;
}

/* Every byte of the mix is as likely as any other: the large texts come more often. It is the loss that is
 * weighted, not the sampling; both at once would square the weights. */
static size_t draw_task(const trainer *t) {
    double at = uniform() * (double)train_bytes(t);
    size_t chosen = 0;
    while (chosen + 1 < t->tasks && at >= (double)t->task[chosen].train) {
        at -= (double)t->task[chosen].train;
        chosen++;
    }
    return chosen;
}

static void put_sequence(batch *b, int sequence, size_t task_id, const unsigned char *text) {
    for (int i = 0; i < SEQUENCE; i++) {
        const int row = sequence * SEQUENCE + i;
        b->task_ids[row] = (int32_t)task_id;
        b->labels[row] = i < CONTEXT ? IGNORED : text[i];
        for (int k = 0; k < CONTEXT; k++)
            b->context[row][k] = i < CONTEXT ? 0 : text[i - CONTEXT + k];
    }
}

static void draw_batch(trainer *t) {
    for (int sequence = 0; sequence < SEQUENCES; sequence++) {
        const size_t id = draw_task(t);
        const double last = (double)(t->task[id].train - SEQUENCE);
        put_sequence(&t->batch, sequence, id, t->task[id].text + (size_t)(uniform() * last));
    }
}

/* ---- model ---- */

static parameter make_parameter(size_t count, double scale) {
    parameter p = {
        .count = count,
        .value = allocate(count, sizeof(float)),
        .gradient = allocate(count, sizeof(float)),
        .first = allocate(count, sizeof(float)),
        .second = allocate(count, sizeof(float)),
    };
    for (size_t i = 0; i < count; i++)
        p.value[i] = (float)(scale * (2 * uniform() - 1));
    return p;
}

static void free_parameter(parameter *p) {
    free(p->value);
    free(p->gradient);
    free(p->first);
    free(p->second);
}

static void make_model(model *m) {
    m->embedding = make_parameter((size_t)BYTES * EMBEDDING, 0.5);
    m->layer = make_parameter((size_t)HIDDEN * INPUT, sqrt(3.0 / INPUT));
    m->layer_bias = make_parameter(HIDDEN, 0);
    m->head = make_parameter((size_t)BYTES * HIDDEN, sqrt(3.0 / HIDDEN));
    m->head_bias = make_parameter(BYTES, 0);
}

static void free_model(model *m) {
    free_parameter(&m->embedding);
    free_parameter(&m->layer);
    free_parameter(&m->layer_bias);
    free_parameter(&m->head);
    free_parameter(&m->head_bias);
}

static void forward_row(const model *m, batch *b, int row) {
    for (int k = 0; k < CONTEXT; k++)
        memcpy(b->input[row] + (ptrdiff_t)k * EMBEDDING,
               m->embedding.value + (ptrdiff_t)b->context[row][k] * EMBEDDING, EMBEDDING * sizeof(float));
    for (int h = 0; h < HIDDEN; h++) {
        const float *layer = m->layer.value + (ptrdiff_t)h * INPUT;
        float sum = m->layer_bias.value[h];
        for (int i = 0; i < INPUT; i++)
            sum += layer[i] * b->input[row][i];
        b->hidden[row][h] = tanhf(sum);
    }
}

/* From the gradient of the hidden state, which the loss has given, to those of layer and embedding. */
static void backward_row(model *m, const batch *b, int row) {
    float input_gradient[INPUT] = {0};
    for (int h = 0; h < HIDDEN; h++) {
        const float slope = 1 - b->hidden[row][h] * b->hidden[row][h];
        const float gradient = b->hidden_gradient[row][h] * slope;
        const float *layer = m->layer.value + (ptrdiff_t)h * INPUT;
        float *layer_gradient = m->layer.gradient + (ptrdiff_t)h * INPUT;
        m->layer_bias.gradient[h] += gradient;
        for (int i = 0; i < INPUT; i++) {
            layer_gradient[i] += gradient * b->input[row][i];
            input_gradient[i] += gradient * layer[i];
        }
    }
    for (int i = 0; i < INPUT; i++) {
        const int byte = b->context[row][i / EMBEDDING];
        m->embedding.gradient[byte * EMBEDDING + i % EMBEDDING] += input_gradient[i];
    }
}

/* ---- the loss ---- */

/* Head, loss and their gradients in one call. Without `train` it is the loss alone. */
static visatb_vitw_linear_loss_args loss_args(trainer *t, int train) {
    batch *b = &t->batch;
    visatb_vitw_linear_loss_args args = VISATB_VITW_LINEAR_LOSS_ARGS_INIT;
    args.rows = ROWS;
    args.hidden_size = HIDDEN;
    args.vocab = BYTES;
    args.tasks = (int64_t)t->tasks;
    args.dtype = VISATB_DTYPE_FLOAT32;
    args.hidden = b->hidden;
    args.weight = t->model.head.value;
    args.bias = t->model.head_bias.value;
    args.labels = b->labels;
    args.task_ids = b->task_ids;
    args.task_weights = t->weights;
    args.ignore_index = IGNORED;
    args.loss = &b->loss;
    args.task_nll = b->task_nll;
    args.task_tokens = b->task_tokens;
    if (train) {
        args.hidden_gradient = b->hidden_gradient;
        args.weight_gradient = t->model.head.gradient;
        args.bias_gradient = t->model.head_bias.gradient;
    }
    args.workspace = t->workspace;
    args.workspace_bytes = t->workspace_bytes;
    return args;
}

/* The shapes never change, so one workspace serves every step. */
static void make_workspace(trainer *t) {
    const visatb_vitw_linear_loss_args args = loss_args(t, 1);
    visatb_linear_plan plan = VISATB_LINEAR_PLAN_INIT;
    check(visatb_vitw_linear_loss_plan(&args, &plan));
    t->workspace = allocate(plan.workspace_bytes, 1);
    t->workspace_bytes = plan.workspace_bytes;
    printf("head and loss by %s and %s, in %zu bytes\n", plan.product, visatb_cpu_path_name(plan.cpu_path),
           plan.workspace_bytes);
}

static void run_loss(trainer *t, int train) {
    for (int row = 0; row < ROWS; row++)
        forward_row(&t->model, &t->batch, row);
    const visatb_vitw_linear_loss_args args = loss_args(t, train);
    check(visatb_vitw_linear_loss(&args));
}

/* ---- training ---- */

static void adam(parameter *p, int step, double rate) {
    const double first_decay = 0.9, second_decay = 0.98;
    const double correction = sqrt(1 - pow(second_decay, step)) / (1 - pow(first_decay, step));
    for (size_t i = 0; i < p->count; i++) {
        const double g = (double)p->gradient[i];
        p->first[i] = (float)(first_decay * (double)p->first[i] + (1 - first_decay) * g);
        p->second[i] = (float)(second_decay * (double)p->second[i] + (1 - second_decay) * g * g);
        p->value[i] -= (float)(rate * correction * (double)p->first[i] / (sqrt((double)p->second[i]) + 1e-8));
        p->gradient[i] = 0;
    }
}

static void train_step(trainer *t, int step, int steps) {
    model *m = &t->model;
    draw_batch(t);
    run_loss(t, 1);
    for (int row = 0; row < ROWS; row++)
        if (t->batch.labels[row] != IGNORED)
            backward_row(m, &t->batch, row);
    const double rate = 3e-3 * (1 - (double)(step - 1) / steps);
    adam(&m->embedding, step, rate);
    adam(&m->layer, step, rate);
    adam(&m->layer_bias, step, rate);
    adam(&m->head, step, rate);
    adam(&m->head_bias, step, rate);
}

/* Mean nll in nats a byte on sequences spread over the part of the text that was not trained on. */
static double validate(trainer *t, size_t id) {
    const text_task *text = &t->task[id];
    const size_t room = text->size - text->validation - SEQUENCE;
    for (int sequence = 0; sequence < SEQUENCES; sequence++)
        put_sequence(&t->batch, sequence, id,
                     text->text + text->validation + room * (size_t)sequence / (SEQUENCES - 1));
    run_loss(t, 0);
    return t->batch.task_nll[id] / (double)t->batch.task_tokens[id];
}

static void report(trainer *t, int step, double *losses) {
    printf("%6d", step);
    for (size_t id = 0; id < t->tasks; id++) {
        losses[id] = validate(t, id);
        printf(" %12.4f", losses[id]);
    }
    printf("\n");
    fflush(stdout);
}

static void read_weights(trainer *t, const char *path) {
    const char *names[MOST_TASKS];
    for (size_t i = 0; i < t->tasks; i++)
        names[i] = t->task[i].name;
    const int equal = strcmp(path, "equal") == 0;
    for (size_t i = 0; equal && i < t->tasks; i++)
        t->weights[i] = 1;
    if (!equal)
        check(visatb_weights_read(path, t->tasks, names, t->weights));
    printf("weights (%s):", path);
    for (size_t i = 0; i < t->tasks; i++)
        printf(" %s %.4f", names[i], (double)t->weights[i]);
    printf("\n");
}

/* Fails if a task has learnt nothing. */
static int train(trainer *t, int steps) {
    double before[MOST_TASKS] = {0};
    double losses[MOST_TASKS] = {0};
    printf("loss on text that was not trained on, in nats a byte:\n%6s", "step");
    for (size_t id = 0; id < t->tasks; id++)
        printf(" %12s", t->task[id].name);
    printf("\n");
    report(t, 0, before);
    for (int step = 1; step <= steps; step++) {
        train_step(t, step, steps);
        if (step * REPORTS / steps != (step - 1) * REPORTS / steps)
            report(t, step, losses);
    }
    int status = EXIT_SUCCESS;
    for (size_t id = 0; id < t->tasks; id++) {
        if (!(losses[id] < before[id])) {
            fprintf(stderr, "train_language_model: the loss of %s did not fall\n", t->task[id].name);
            status = EXIT_FAILURE;
        }
    }
    return status;
}

int main(int argc, char **argv) {
    const int steps = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    if (argc < 4 || argc > 3 + MOST_TASKS || steps < 1) {
        fprintf(stderr, "usage: %s WEIGHTS.json STEPS NAME=FILE[@PART] ...\n", argv[0]);
        return 2;
    }
    trainer *t = allocate(1, sizeof *t);
    t->tasks = (size_t)argc - 3;
    for (size_t i = 0; i < t->tasks; i++)
        read_text(&t->task[i], argv[3 + i]);
    read_weights(t, argv[1]);
    make_model(&t->model);
    make_workspace(t);

    const int status = train(t, steps);
    free_model(&t->model);
    for (size_t i = 0; i < t->tasks; i++)
        free(t->task[i].text);
    free(t->workspace);
    free(t);
    return status;
}
