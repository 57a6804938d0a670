/* The step of weighted_loss.c where the vocabulary is in two slices, of one word and of two. Each of them
 * would be a process with logits of its own; here one plays both, and so has nothing to send. */
#include <stdio.h>
#include <visatb.h>

enum { ROWS = 4, VOCAB = 3, SLICES = 2 };

static float first_logits[ROWS][1] = {{2}, {0}, {0}, {9}};
static float last_logits[ROWS][2] = {{0, 0}, {1, 0}, {0, 3}, {9, 9}};

/* What all processes have alike. */
static visatb_vitw_loss_args whole_call(double *loss) {
    static const int64_t labels[ROWS] = {0, 2, 2, -100}; /* the last token is a prompt's: ignored */
    static const int32_t task_ids[ROWS] = {0, 1, 0, 1};
    static const float task_weights[2] = {0.8F, 1.2F};
    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = ROWS;
    args.vocab = VOCAB; /* of all slices: labels are its words */
    args.tasks = 2;
    args.dtype = VISATB_DTYPE_FLOAT32;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = task_weights;
    args.loss = loss;
    return args;
}

int main(void) {
    double told[SLICES][ROWS * VISATB_SLICE_STATISTICS];
    double loss[SLICES] = {0.0};
    visatb_vitw_loss_args args[SLICES];
    visatb_vocab_slice slices[SLICES] = {VISATB_VOCAB_SLICE_INIT, VISATB_VOCAB_SLICE_INIT};
    slices[0].first = 0;
    slices[0].width = 1;
    slices[1].first = 1;
    slices[1].width = 2;
    for (int i = 0; i < SLICES; i++) {
        args[i] = whole_call(&loss[i]);
        args[i].logits = i == 0 ? &first_logits[0][0] : &last_logits[0][0];
        args[i].gradient = i == 0 ? &first_logits[0][0] : &last_logits[0][0];
    }

    for (int i = 0; i < SLICES; i++)
        if (visatb_vitw_slice_statistics(&args[i], &slices[i], told[i]) != VISATB_OK) {
            fprintf(stderr, "%s\n", visatb_last_error());
            return 1;
        }
    /* Between processes: MPI_Allgather of ROWS * VISATB_SLICE_STATISTICS doubles, or what else there is. */
    for (int i = 0; i < SLICES; i++)
        if (visatb_vitw_slice_loss(&args[i], &slices[i], SLICES, told[0]) != VISATB_OK) {
            fprintf(stderr, "%s\n", visatb_last_error());
            return 1;
        }

    printf("loss %.6f and %.6f\n", loss[0], loss[1]);
    for (int row = 0; row < ROWS; row++)
        printf("gradient %d: % .6f | % .6f % .6f\n", row, (double)first_logits[row][0],
               (double)last_logits[row][0], (double)last_logits[row][1]);
    return 0;
}
