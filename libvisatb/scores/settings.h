/* What a scores file says besides scores: the form, and how the weights are made from it. */
#ifndef VISATB_SCORES_SETTINGS_H
#define VISATB_SCORES_SETTINGS_H

#include "scores/json_document.h"

typedef struct sampling {
    double large; /* rates of the subsets and the batch size; 0: not given */
    double mini;
    double batch_size;
} sampling;

typedef struct settings {
    visatb_form form;
    double alphas[3];   /* out, in, difficulty, as given */
    double temperature; /* 0: automatic */
    double range[2];
    sampling sampling;
} settings;

/* Reads them from the root of the file; what it leaves out has the paper's values. */
visatb_status settings_read(json_place *place, const json_t *root, settings *out);

#endif
