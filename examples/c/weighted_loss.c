/* One step of the VITW loss: two tasks, four tokens, a vocabulary of three; the gradient replaces the logits.
 */
#include <stdio.h>
#include <visatb.h>

int main(void) {
    float logits[4][3] = {{2, 0, 0}, {0, 1, 0}, {0, 0, 3}, {9, 9, 9}};
    const int64_t labels[4] = {0, 2, 2, -100}; /* the last token is a prompt's: ignored */
    const int32_t task_ids[4] = {0, 1, 0, 1};
    const float task_weights[2] = {0.8F, 1.2F};
    double loss = 0.0, task_nll[2];
    int64_t task_tokens[2];

    visatb_vitw_loss_args args = VISATB_VITW_LOSS_ARGS_INIT;
    args.rows = 4;
    args.vocab = 3;
    args.tasks = 2;
    args.dtype = VISATB_DTYPE_FLOAT32;
    args.logits = logits;
    args.labels = labels;
    args.task_ids = task_ids;
    args.task_weights = task_weights;
    args.loss = &loss;
    args.gradient = logits;
    args.task_nll = task_nll;
    args.task_tokens = task_tokens;
    if (visatb_vitw_loss(&args) != VISATB_OK) {
        fprintf(stderr, "%s\n", visatb_last_error());
        return 1;
    }
    printf("loss %.6f\n", loss);
    for (int task = 0; task < 2; task++)
        printf("task %d: %lld tokens, mean nll %.6f\n", task, (long long)task_tokens[task],
               task_nll[task] / (double)task_tokens[task]);
    for (int row = 0; row < 4; row++)
        printf("gradient %d: % .6f % .6f % .6f\n", row, (double)logits[row][0], (double)logits[row][1],
               (double)logits[row][2]);
    return 0;
}
