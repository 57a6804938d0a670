/* The public entry of the loss: check the call, settle the denominator, run the rows, hand out the sums. */
#include "cpu/portable.h"
#include "loss/check.h"
#include "loss/rows.h"

static double sum_of_weights(const visatb_vitw_loss_args *args) {
    double sum = 0;
    for (int64_t row = 0; row < args->rows; ++row)
        if (loss_row_is_valid(args, row))
            sum += loss_row_weight(args, row);
    return sum;
}

static loss_plan plan_of(const visatb_vitw_loss_args *args) {
    const double denominator = args->denominator != NULL ? *args->denominator : sum_of_weights(args);
    const double grad_scale = args->grad_scale != NULL ? (double)*args->grad_scale : 1;
    /* D is 0 only where no row has a weight: then there is nothing to divide. */
    const bool divides = args->reduction == VISATB_REDUCTION_MEAN && denominator > 0;
    const double divisor = divides ? denominator : 1;
    return (loss_plan){
        .args = args, .denominator = denominator, .divisor = divisor, .gradient_scale = grad_scale / divisor};
}

visatb_status visatb_vitw_loss(const visatb_vitw_loss_args *args) {
    visatb_vitw_loss_args checked;
    const visatb_status status = loss_check(args, &checked);
    if (status != VISATB_OK)
        return status;

    const loss_plan plan = plan_of(&checked);
    visatb_report report;
    const double numerator = loss_rows_run(&plan, &portable_backend, &report);

    *checked.loss = numerator / plan.divisor;
    if (checked.numerator != NULL)
        *checked.numerator = numerator;
    if (checked.denominator_out != NULL)
        *checked.denominator_out = plan.denominator;
    if (checked.report != NULL)
        *checked.report = report;
    return VISATB_OK;
}
