/* What is allowed but weakens the result: each as {"code", "path", "message"}. */
#ifndef VISATB_SCORES_WARNINGS_H
#define VISATB_SCORES_WARNINGS_H

#include "scores/balance_run.h"

/* A new array of them, NULL where memory is exhausted. */
json_t *warnings_of(const visatb_scores *scores, const balance_request *request,
                    const balance_result *result);

#endif
