/* A weights.json: the handle that C and Python hold is the document itself. */
#ifndef VISATB_SCORES_WEIGHTS_DOCUMENT_H
#define VISATB_SCORES_WEIGHTS_DOCUMENT_H

#include "scores/balance_run.h"

struct visatb_weights {
    json_t *root;
    char *text; /* as written to a file */
};

/* The document for a result; `warnings` is taken. NULL where memory is exhausted. */
json_t *weights_document(const visatb_scores *scores, const balance_request *request,
                         const balance_result *result, json_t *warnings, const char *sha256);

#endif
