/* Every scores file that must be refused, with the exact message. */
#include "expect.h"
#include "score_documents.h"

#include <stdio.h>

static visatb_status weigh(const char *text, size_t length, const visatb_weights_options *options) {
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    visatb_status status = visatb_scores_parse(text, length, "scores.json", &scores);
    if (status == VISATB_OK)
        status = visatb_weights_compute(scores, options, &weights);
    if (status != VISATB_OK)
        assert_null(weights);
    visatb_weights_destroy(weights);
    visatb_scores_destroy(scores);
    return status;
}

static void expect_each(const broken_document *cases, size_t count) {
    for (size_t k = 0; k < count; k++) {
        char *const text = edited(FULL_DOCUMENT, cases[k].find, cases[k].replace);
        if (!text)
            fail_msg("%s: \"%s\" does not occur in the document", cases[k].what, cases[k].find);
        const visatb_status status = weigh(text, strlen(text), NULL);
        if (status != VISATB_ERROR_DATA)
            fail_msg("%s: %s", cases[k].what, visatb_status_string(status));
        if (strcmp(visatb_last_error(), cases[k].message) != 0)
            fail_msg("%s:\n  says    %s\n  expected %s", cases[k].what, visatb_last_error(),
                     cases[k].message);
        if (strcmp(visatb_last_error_path(), cases[k].path) != 0)
            fail_msg("%s: path %s, expected %s", cases[k].what, visatb_last_error_path(), cases[k].path);
        free(text);
    }
}

#define EXPECT_EACH(cases) expect_each(cases, sizeof(cases) / sizeof(cases)[0])

static void the_document_itself_is_fine(void **state) {
    (void)state;
    expect_ok(weigh(FULL_DOCUMENT, strlen(FULL_DOCUMENT), NULL));
}

static void text_that_is_not_json_is_refused_where_it_goes_wrong(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"a brace too few", "\"batch_size\":32}}", "\"batch_size\":32}",
         "scores.json: sampling: the document ends too early (line 1, column 1077)", "sampling"},
        {"a second document", "\"batch_size\":32}}", "\"batch_size\":32}} {}",
         "scores.json: text after the end of the document (line 1, column 1080)", ""},
        {"NaN", "\"cider\":0.4}", "\"cider\":NaN}",
         "scores.json: runs.mini.caption.cider: invalid token near 'NaN' (line 1, column 565)",
         "runs.mini.caption.cider"},
        {"-Infinity", "\"cider\":0.4}", "\"cider\":-Infinity}",
         "scores.json: runs.mini.caption.cider: invalid token near '-' (line 1, column 563)",
         "runs.mini.caption.cider"},
        {"a number beyond double", "\"f1\":52", "\"f1\":1e999",
         "scores.json: runs.with_mini.caption.vqa.f1: number too large for a double (line 1, column 699)",
         "runs.with_mini.caption.vqa.f1"},
        {"a metric scored twice", "\"f1\":52", "\"em\":52",
         "scores.json: runs.with_mini.caption.vqa.em: duplicate key (line 1, column 693)",
         "runs.with_mini.caption.vqa.em"},
        {"a run given twice", "\"vqa\":{\"caption\":{\"cider\":0.42}",
         "\"caption\":{\"caption\":{\"cider\":0.42}",
         "scores.json: runs.with_mini.caption: duplicate key (line 1, column 744)", "runs.with_mini.caption"},
        {"a missing comma", "\"samples\":40000},{\"name\":\"vqa\"", "\"samples\":40000}{\"name\":\"vqa\"",
         "scores.json: tasks[0]: ']' expected near '{' (line 1, column 150)", "tasks[0]"},
        {"single quotes", "\"note\"", "'note'",
         "scores.json: form: string or '}' expected near ''' (line 1, column 34)", "form"},
        {"an escaped NUL", "an example", "a\\u0000b",
         "scores.json: note: a NUL character in a string (line 1, column 50)", "note"},
        {"something in front", "", "[1] ",
         "scores.json: text after the end of the document (line 1, column 5)", ""},
    };
    EXPECT_EACH(cases);
}

static void settings_that_are_wrong_are_refused(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"no version", "\"visatb_scores\":1,", "", "scores.json: visatb_scores: missing", "visatb_scores"},
        {"version 2", "\"visatb_scores\":1", "\"visatb_scores\":2",
         "scores.json: visatb_scores: unknown version 2; expected 1", "visatb_scores"},
        {"version string", "\"visatb_scores\":1", "\"visatb_scores\":\"1\"",
         "scores.json: visatb_scores: expected a number, not a string", "visatb_scores"},
        {"unknown form", "\"form\":\"full\"", "\"form\":\"fast\"",
         "scores.json: form: unknown form \"fast\"; expected full, simple or precise", "form"},
        {"no form", "\"form\":\"full\",", "", "scores.json: form: missing", "form"},
        {"unknown key", "\"note\":\"an", "\"nte\":\"an",
         "scores.json: nte: unknown key; expected one of visatb_scores, form, note, plan, tasks, runs, "
         "alphas, range, sampling, per_sample, temperature",
         "nte"},
        {"note not string", "\"note\":\"an example\"", "\"note\":7",
         "scores.json: note: expected a string, not a number", "note"},
        {"plan not string", "\"note\":\"an example\"", "\"plan\":7",
         "scores.json: plan: expected a string, not a number", "plan"},
        {"no runs", "\"runs\"", "\"note2\"",
         "scores.json: note2: unknown key; expected one of visatb_scores, form, note, plan, tasks, runs, "
         "alphas, range, sampling, per_sample, temperature",
         "note2"},
        {"alpha negative", "\"out\":0.25", "\"out\":-0.25",
         "scores.json: alphas.out: -0.25; expected a number of 0 or more", "alphas.out"},
        {"alpha sum", "\"out\":0.25", "\"out\":0.29",
         "scores.json: alphas: the alphas sum to 1.04; expected 1 within 0.02", "alphas"},
        {"alpha missing", "\"out\":0.25,", "", "scores.json: alphas.out: missing", "alphas.out"},
        {"alpha unknown", "\"out\":0.25", "\"out\":0.25,\"up\":0",
         "scores.json: alphas.up: unknown key; expected one of out, in, difficulty", "alphas.up"},
        {"alpha string", "\"out\":0.25", "\"out\":\"0.25\"",
         "scores.json: alphas.out: expected a number, not a string", "alphas.out"},
        {"T zero", "\"temperature\":0.5", "\"temperature\":0",
         "scores.json: temperature: 0; expected \"auto\" or a number above 0", "temperature"},
        {"T neg", "\"temperature\":0.5", "\"temperature\":-1",
         "scores.json: temperature: -1; expected \"auto\" or a number above 0", "temperature"},
        {"T word", "\"temperature\":0.5", "\"temperature\":\"cold\"",
         "scores.json: temperature: \"cold\"; expected \"auto\" or a number above 0", "temperature"},
        {"T bool", "\"temperature\":0.5", "\"temperature\":true",
         "scores.json: temperature: expected a number, not a boolean", "temperature"},
        {"range", "[0.5,2.0]", "[1.1,2.0]", "scores.json: range: [1.1, 2] does not contain 1", "range"},
        {"range one", "[0.5,2.0]", "[0.5]", "scores.json: range: 1 entries; expected [low, high]", "range"},
        {"range str", "[0.5,2.0]", "[0.5,\"2\"]", "scores.json: range[1]: expected a number, not a string",
         "range[1]"},
        {"no T fits", "\"temperature\":0.5,\"range\":[0.5,2.0]",
         "\"temperature\":\"auto\",\"range\":[0.999,1.001]",
         "scores.json: temperature: no temperature of 4, 2, 1, 0.5, 0.25, 0.125 keeps every weight within "
         "[0.999, 1.001]; give one, or a wider range",
         "temperature"},
    };
    EXPECT_EACH(cases);
}

static void sampling_that_is_wrong_is_refused(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"a rate of 0", "\"large\":0.25", "\"large\":0",
         "scores.json: sampling.large: 0; expected a rate above 0 and up to 1", "sampling.large"},
        {"half a seed", "\"seed\":0", "\"seed\":0.5",
         "scores.json: sampling.seed: 0.5; expected a whole number of 0 or more", "sampling.seed"},
        {"one and a half samples a batch", "\"batch_size\":32", "\"batch_size\":1.5",
         "scores.json: sampling.batch_size: 1.5; expected a whole number of 1 or more",
         "sampling.batch_size"},
        {"samples by sample in no file", "\"range\"", "\"per_sample\":1,\"range\"",
         "scores.json: per_sample: expected a string, not a number", "per_sample"},
        {"a range below 1", "[0.5,2.0]", "[0.5,0.9]", "scores.json: range: [0.5, 0.9] does not contain 1",
         "range"},
        {"mini above large", "\"mini\":0.03125", "\"mini\":0.5",
         "scores.json: sampling: mini 0.5 is above large 0.25; the mini subset lies inside the large one",
         "sampling"},
        {"rate", "\"large\":0.25", "\"large\":25",
         "scores.json: sampling.large: 25; expected a rate above 0 and up to 1", "sampling.large"},
        {"batch", "\"batch_size\":32", "\"batch_size\":0.5",
         "scores.json: sampling.batch_size: 0.5; expected a whole number of 1 or more",
         "sampling.batch_size"},
        {"seed", "\"seed\":0", "\"seed\":\"0\"",
         "scores.json: sampling.seed: expected a number, not a string", "sampling.seed"},
        {"sampling key", "\"seed\":0", "\"sed\":0",
         "scores.json: sampling.sed: unknown key; expected one of large, mini, seed, batch_size",
         "sampling.sed"},
    };
    EXPECT_EACH(cases);
}

static void tasks_that_are_wrong_are_refused(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"dup task", "\"name\":\"vqa\"", "\"name\":\"caption\"",
         "scores.json: tasks[1].name: duplicate task \"caption\"", "tasks[1].name"},
        {"dup metric", "\"name\":\"f1\"", "\"name\":\"em\"",
         "scores.json: tasks[1].metrics[1].name: duplicate metric \"em\"", "tasks[1].metrics[1].name"},
        {"empty name", "\"name\":\"vqa\"", "\"name\":\"\"",
         "scores.json: tasks[1].name: empty; expected a name", "tasks[1].name"},
        {"no name", "\"name\":\"vqa\",", "", "scores.json: tasks[1].name: missing", "tasks[1].name"},
        {"name null", "\"name\":\"vqa\"", "\"name\":null",
         "scores.json: tasks[1].name: expected a string, not null", "tasks[1].name"},
        {"no metrics", "\"metrics\":[{\"name\":\"cider\",\"higher_is_better\":true}],", "",
         "scores.json: tasks[0].metrics: missing", "tasks[0].metrics"},
        {"empty metrics", "\"metrics\":[{\"name\":\"cider\",\"higher_is_better\":true}]", "\"metrics\":[]",
         "scores.json: tasks[0].metrics: empty; expected at least one metric", "tasks[0].metrics"},
        {"no higher", "\"name\":\"cider\",\"higher_is_better\":true", "\"name\":\"cider\"",
         "scores.json: tasks[0].metrics[0].higher_is_better: missing",
         "tasks[0].metrics[0].higher_is_better"},
        {"higher string", "\"name\":\"cider\",\"higher_is_better\":true",
         "\"name\":\"cider\",\"higher_is_better\":\"yes\"",
         "scores.json: tasks[0].metrics[0].higher_is_better: expected true or false, not a string",
         "tasks[0].metrics[0].higher_is_better"},
        {"metric key", "\"name\":\"cider\",\"higher_is_better\":true", "\"name\":\"cider\",\"higher\":true",
         "scores.json: tasks[0].metrics[0].higher: unknown key; expected one of name, higher_is_better",
         "tasks[0].metrics[0].higher"},
        {"task key", "\"samples\":40000},{\"name\":\"vqa\"", "\"size\":40000},{\"name\":\"vqa\"",
         "scores.json: tasks[0].size: unknown key; expected one of name, metrics, group, fixed_weight, "
         "samples, note",
         "tasks[0].size"},
        {"zero_shot", "\"samples\":40000},{\"name\":\"vqa\"", "\"zero_shot\":true},{\"name\":\"vqa\"",
         "scores.json: tasks[0].zero_shot: unknown key; expected one of name, metrics, group, fixed_weight, "
         "samples, note",
         "tasks[0].zero_shot"},
    };
    EXPECT_EACH(cases);
}

static void groups_and_fixed_weights_that_are_wrong_are_refused(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"empty group", "\"group\":\"grounding\"", "\"group\":\"\"",
         "scores.json: tasks[2].group: empty; expected a group's name, or no group", "tasks[2].group"},
        {"mixed group", "\"chat\",\"fixed", "\"chat\",\"group\":\"grounding\",\"fixed",
         "scores.json: tasks[4]: group \"grounding\" mixes fixed-weight tasks and others (box, chat)",
         "tasks[4]"},
        {"group is task", "\"group\":\"grounding\",\"samples\":50000", "\"group\":\"vqa\",\"samples\":50000",
         "scores.json: tasks[2]: \"vqa\" is the name of a task and of a group; names of units must differ",
         "tasks[2]"},
        {"a task named like a group before it", "\"name\":\"chat\",\"fixed_weight\":1.0",
         "\"name\":\"grounding\",\"metrics\":[{\"name\":\"x\",\"higher_is_better\":true}]",
         "scores.json: tasks[4]: \"grounding\" is the name of a task and of a group; names of units must "
         "differ",
         "tasks[4]"},
        {"fixed neg", "\"fixed_weight\":1.0", "\"fixed_weight\":-1",
         "scores.json: tasks[4].fixed_weight: -1; expected a number from 0 to 3.4e38",
         "tasks[4].fixed_weight"},
        {"fixed huge", "\"fixed_weight\":1.0", "\"fixed_weight\":1e300",
         "scores.json: tasks[4].fixed_weight: 1e+300; expected a number from 0 to 3.4e38",
         "tasks[4].fixed_weight"},
        {"fixed null", "\"fixed_weight\":1.0", "\"fixed_weight\":null",
         "scores.json: tasks[4].fixed_weight: expected a number, not null", "tasks[4].fixed_weight"},
        {"samples", "\"samples\":60000", "\"samples\":0.5",
         "scores.json: tasks[1].samples: 0.5; expected a whole number of 1 or more", "tasks[1].samples"},
        {"task not object", "\"tasks\":[", "\"tasks\":[\"caption\",",
         "scores.json: tasks[0]: expected an object, not a string", "tasks[0]"},
        {"tasks object", "\"tasks\":[", "\"tasks\":{},\"x\":[",
         "scores.json: x: unknown key; expected one of visatb_scores, form, note, plan, tasks, runs, "
         "alphas, range, sampling, per_sample, temperature",
         "x"},
    };
    EXPECT_EACH(cases);
}

static void scores_that_are_missing_extra_or_no_numbers_are_refused(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"missing run", "\"mini\":{\"caption\":{\"cider\":0.4}", "\"base\":{\"caption\":{\"cider\":0.4}",
         "scores.json: runs.mini: missing", "runs.mini"},
        {"missing unit run",
         "\"grounding\":{\"caption\":{\"cider\":0.41},\"vqa\":{\"em\":61,\"f1\":51},\"box\":{\"l1\":4},"
         "\"point\":{\"acc\":45}}",
         "\"grounding\":{}", "scores.json: runs.with_mini.grounding.caption: missing",
         "runs.with_mini.grounding.caption"},
        {"missing task", "\"caption\":{\"cider\":0.42},", "",
         "scores.json: runs.with_mini.vqa.caption: missing", "runs.with_mini.vqa.caption"},
        {"missing metric", "\"vqa\":{\"em\":62,\"f1\":52}", "\"vqa\":{\"em\":62}",
         "scores.json: runs.with_mini.caption.vqa.f1: missing", "runs.with_mini.caption.vqa.f1"},
        {"extra metric", "\"f1\":52", "\"f1\":52,\"bleu\":3",
         "scores.json: runs.with_mini.caption.vqa.bleu: unknown metric of task \"vqa\"",
         "runs.with_mini.caption.vqa.bleu"},
        {"extra task", "\"vqa\":{\"em\":62,", "\"vqq\":{},\"vqa\":{\"em\":62,",
         "scores.json: runs.with_mini.caption.vqq: unknown task; it is not in \"tasks\"",
         "runs.with_mini.caption.vqq"},
        {"a run called after a task of a group", "\"grounding\":{\"caption\":{\"cider\":0.41}",
         "\"box\":{\"caption\":{\"cider\":0.41}",
         "scores.json: runs.with_mini.box: task \"box\" is in group \"grounding\", which is trained as one: "
         "call the run "
         "\"grounding\"",
         "runs.with_mini.box"},
        {"a run called after a fixed-weight task", "\"grounding\":{\"caption\":{\"cider\":0.41}",
         "\"chat\":{\"caption\":{\"cider\":0.41}",
         "scores.json: runs.with_mini.chat: task \"chat\" has a fixed weight, so it has no run of its own",
         "runs.with_mini.chat"},
        {"a run called after nothing known", "\"grounding\":{\"caption\":{\"cider\":0.41}",
         "\"boxes\":{\"caption\":{\"cider\":0.41}",
         "scores.json: runs.with_mini.boxes: unknown; runs are called after a group, or after a task without "
         "one",
         "runs.with_mini.boxes"},
        {"unknown kind", "\"with_mini\"", "\"with_large\"",
         "scores.json: runs.with_large: unknown key; expected one of base, mini, with_mini, only, mini_only",
         "runs.with_large"},
        {"string score", "\"cider\":0.4}", "\"cider\":\"0.4\"}",
         "scores.json: runs.mini.caption.cider: expected a number, not a string", "runs.mini.caption.cider"},
        {"null score", "\"cider\":0.4}", "\"cider\":null}",
         "scores.json: runs.mini.caption.cider: expected a number, not null", "runs.mini.caption.cider"},
        {"bool score", "\"cider\":0.4}", "\"cider\":true}",
         "scores.json: runs.mini.caption.cider: expected a number, not a boolean", "runs.mini.caption.cider"},
        {"array for scores", "\"caption\":{\"cider\":0.4}", "\"caption\":[0.4]",
         "scores.json: runs.mini.caption: expected an object, not an array", "runs.mini.caption"},
        {"number for run",
         "\"grounding\":{\"caption\":{\"cider\":0.41},\"vqa\":{\"em\":61,\"f1\":51},\"box\":{\"l1\":4},"
         "\"point\":{\"acc\":45}}",
         "\"grounding\":3", "scores.json: runs.with_mini.grounding: expected an object, not a number",
         "runs.with_mini.grounding"},
        {"fixed task bad", "\"point\":{\"acc\":30}}", "\"point\":{\"acc\":30},\"chat\":{\"x\":1}}",
         "scores.json: runs.mini.chat.x: unknown metric of task \"chat\"", "runs.mini.chat.x"},
    };
    EXPECT_EACH(cases);
}

static void scores_that_cannot_carry_weights_are_refused(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"a score that training left alone", "{\"caption\":{\"cider\":0.5}", "{\"caption\":{\"cider\":0.4}",
         "scores.json: runs.with_mini.caption.caption.cider: training on caption left its own score at 0.4 "
         "(0.4 in runs.mini): contributions to it would divide by zero (Eq. 3, 10)",
         "runs.with_mini.caption.caption.cider"},
        {"a change that is rounding noise", "{\"caption\":{\"cider\":0.5}",
         "{\"caption\":{\"cider\":0.4000000001}",
         "scores.json: runs.with_mini.caption.caption.cider: training on caption left its own score at 0.4 "
         "(0.4 in runs.mini): contributions to it would divide by zero (Eq. 3, 10)",
         "runs.with_mini.caption.caption.cider"},
        {"a score that training made worse", "{\"caption\":{\"cider\":0.5}", "{\"caption\":{\"cider\":0.3}",
         "scores.json: runs.with_mini.caption.caption.cider: training on caption made its own score worse "
         "(0.3, after 0.4 in runs.mini): every contribution to it would change its sign, unless negative "
         "denominators are allowed",
         "runs.with_mini.caption.caption.cider"},
        {"a lower-is-better score that grew", "\"box\":{\"l1\":4}", "\"box\":{\"l1\":9}",
         "scores.json: runs.with_mini.grounding.box.l1: training on grounding made its own score worse (9, "
         "after 8 in runs.mini): every contribution to it would change its sign, unless negative "
         "denominators are allowed",
         "runs.with_mini.grounding.box.l1"},
        {"a divisor of difficulty below 0",
         "\"cider\":0.4},\"vqa\":{\"em\":60,\"f1\":50},\"box\":{\"l1\":8},\"point\":{\"acc\":30}},\"with_"
         "mini\":{\"caption\":{\"caption\":{\"cider\":0.5}",
         "\"cider\":-4},\"vqa\":{\"em\":60,\"f1\":50},\"box\":{\"l1\":8},\"point\":{\"acc\":30}},\"with_"
         "mini\":{\"caption\":{\"caption\":{\"cider\":-1}",
         "scores.json: runs.with_mini.caption.caption.cider: -1 is not above 0, and difficulty divides by it "
         "(Eq. 6, 11, 12)",
         "runs.with_mini.caption.caption.cider"},
        {"a lower-is-better divisor of 0",
         "\"box\":{\"l1\":8},\"point\":{\"acc\":30}},\"with_mini\":{\"caption\":{\"caption\":{\"cider\":0.5},"
         "\"vqa\":{\"em\":62,\"f1\":52},\"box\":{\"l1\":7.5},\"point\":{\"acc\":33}},\"vqa\":{\"caption\":{"
         "\"cider\":0.42},\"vqa\":{\"em\":70,\"f1\":60},\"box\":{\"l1\":7.8},\"point\":{\"acc\":32}},"
         "\"grounding\":{\"caption\":{\"cider\":0.41},\"vqa\":{\"em\":61,\"f1\":51},\"box\":{\"l1\":4}",
         "\"box\":{\"l1\":0},\"point\":{\"acc\":30}},\"with_mini\":{\"caption\":{\"caption\":{\"cider\":0.5},"
         "\"vqa\":{\"em\":62,\"f1\":52},\"box\":{\"l1\":7.5},\"point\":{\"acc\":33}},\"vqa\":{\"caption\":{"
         "\"cider\":0.42},\"vqa\":{\"em\":70,\"f1\":60},\"box\":{\"l1\":7.8},\"point\":{\"acc\":32}},"
         "\"grounding\":{\"caption\":{\"cider\":0.41},\"vqa\":{\"em\":61,\"f1\":51},\"box\":{\"l1\":-4}",
         "scores.json: runs.mini.box.l1: 0 is not above 0, and difficulty divides by it (Eq. 6, 11, 12)",
         "runs.mini.box.l1"},
        {"scores too far apart", "\"caption\":{\"cider\":0.42}", "\"caption\":{\"cider\":1e308}",
         "scores.json: runs.with_mini.vqa.caption.cider: 0.4 and 1e+308 are too far apart for a finite "
         "result",
         "runs.with_mini.vqa.caption.cider"},
        {"scores whose mean is beyond double",
         "\"caption\":{\"cider\":0.42},\"vqa\":{\"em\":70,\"f1\":60},\"box\":{\"l1\":7.8}",
         "\"caption\":{\"cider\":1.79e307},\"vqa\":{\"em\":70,\"f1\":60},\"box\":{\"l1\":-1.7e308}",
         "scores.json: runs.with_mini: the scores are too far apart for finite contributions",
         "runs.with_mini"},
        {"no temperature of the grid", "\"temperature\":0.5,\"range\":[0.5,2.0]",
         "\"temperature\":\"auto\",\"range\":[0.999,1.001]",
         "scores.json: temperature: no temperature of 4, 2, 1, 0.5, 0.25, 0.125 keeps every weight within "
         "[0.999, 1.001]; give one, or a wider range",
         "temperature"},
    };
    EXPECT_EACH(cases);
}

static void nothing_at_all_is_refused(void **state) {
    (void)state;
    expect_failure(weigh("", 0, NULL), VISATB_ERROR_DATA,
                   "scores.json: the document ends too early (line 1, column 0)");
    expect_failure(weigh("[1]", 3, NULL), VISATB_ERROR_DATA, "scores.json: expected an object, not an array");
}

static void text_that_is_not_utf8_is_refused(void **state) {
    (void)state;
    char *const text = edited(FULL_DOCUMENT, "an example", "\xff");
    expect_failure(weigh(text, strlen(text), NULL), VISATB_ERROR_DATA,
                   "scores.json: note: not UTF-8 (line 1, column 41)");
    free(text);
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    char deep[100001];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(weigh(deep, sizeof deep - 1, NULL), VISATB_ERROR_DATA);
    assert_non_null(strstr(visatb_last_error(), ": nested too deeply (line 1, column 2049)"));
}

static void keys_that_would_be_misread_are_quoted(void **state) {
    (void)state;
    const broken_document cases[] = {
        {"a dot", "\"cider\":0.4}", "\"a.b\":0.4,\"cider\":0.4}",
         "scores.json: runs.mini.caption[\"a.b\"]: unknown metric of task \"caption\"",
         "runs.mini.caption[\"a.b\"]"},
        {"an empty key", "\"cider\":0.4}", "\"\":0.4,\"cider\":0.4}",
         "scores.json: runs.mini.caption[\"\"]: unknown metric of task \"caption\"",
         "runs.mini.caption[\"\"]"},
        {"a line feed", "\"cider\":0.4}", "\"a\\n\":0.4,\"cider\":0.4}",
         "scores.json: runs.mini.caption[\"a\\u000a\"]: unknown metric of task \"caption\"",
         "runs.mini.caption[\"a\\u000a\"]"},
        {"letters of other scripts need no quotes", "\"cider\":0.4}", "\"\xc3\xa9\":0.4,\"cider\":0.4}",
         "scores.json: runs.mini.caption.\xc3\xa9: unknown metric of task \"caption\"",
         "runs.mini.caption.\xc3\xa9"},
    };
    EXPECT_EACH(cases);
}

/* N tasks of one metric, without runs: enough to be counted. */
static visatb_status weigh_count(size_t count) {
    char *const text = malloc(100 + count * 80);
    assert_non_null(text);
    size_t used = (size_t)sprintf(text, "{\"visatb_scores\":1,\"form\":\"full\",\"runs\":{},\"tasks\":[");
    for (size_t t = 0; t < count; t++)
        used += (size_t)sprintf(
            text + used, "%s{\"name\":\"t%zu\",\"metrics\":[{\"name\":\"m\",\"higher_is_better\":true}]}",
            t ? "," : "", t);
    strcpy(text + used, "]}");
    const visatb_status status = weigh(text, strlen(text), NULL);
    free(text);
    return status;
}

static void too_few_and_too_many_tasks_are_refused(void **state) {
    (void)state;
    expect_failure(
        weigh_count(0), VISATB_ERROR_DATA,
        "scores.json: tasks: N = 0; weighing needs at least two tasks (or groups) without a fixed weight");
    expect_failure(
        weigh_count(1), VISATB_ERROR_DATA,
        "scores.json: tasks: N = 1; weighing needs at least two tasks (or groups) without a fixed weight");
    expect_failure(weigh_count(1025), VISATB_ERROR_DATA,
                   "scores.json: tasks: N = 1025; a file holds up to 1024");
    expect_failure(weigh_count(1024), VISATB_ERROR_DATA, "scores.json: runs.mini: missing");
}

static void a_form_asks_for_its_own_runs(void **state) {
    (void)state;
    visatb_weights_options options = VISATB_WEIGHTS_OPTIONS_INIT;
    options.form = VISATB_FORM_SIMPLE;
    expect_failure(weigh(FULL_DOCUMENT, strlen(FULL_DOCUMENT), &options), VISATB_ERROR_DATA,
                   "scores.json: runs.base: missing");
    options.form = VISATB_FORM_PRECISE;
    expect_failure(weigh(FULL_DOCUMENT, strlen(FULL_DOCUMENT), &options), VISATB_ERROR_DATA,
                   "scores.json: runs.mini_only: missing");
}

static void a_negative_denominator_passes_where_it_is_allowed(void **state) {
    (void)state;
    char *const text = edited(FULL_DOCUMENT, "{\"caption\":{\"cider\":0.5}", "{\"caption\":{\"cider\":0.3}");
    visatb_weights_options options = VISATB_WEIGHTS_OPTIONS_INIT;
    options.allow_negative_denominator = 1;
    expect_ok(weigh(text, strlen(text), &options));
    free(text);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    const size_t length = strlen(FULL_DOCUMENT);
    visatb_weights_options options = VISATB_WEIGHTS_OPTIONS_INIT;
    const double cold = -1.0, alphas[3] = {0.5, 0.5, 0.5}, negative[3] = {-0.5, 0.5, 1.0};
    options.temperature = &cold;
    expect_failure(
        weigh(FULL_DOCUMENT, length, &options), VISATB_ERROR_ARGUMENT,
        "visatb_weights_compute: options->temperature = -1; expected a finite number above 0, or 0 for "
        "automatic");
    options.temperature = NULL;
    options.alphas = alphas;
    expect_failure(weigh(FULL_DOCUMENT, length, &options), VISATB_ERROR_ARGUMENT,
                   "visatb_weights_compute: options->alphas sum to 1.5; expected 1 within 0.02");
    options.alphas = negative;
    expect_failure(
        weigh(FULL_DOCUMENT, length, &options), VISATB_ERROR_ARGUMENT,
        "visatb_weights_compute: options->alphas[0] = -0.5; expected a finite number of 0 or more");
    options.alphas = NULL;
    options.form = (visatb_form)9;
    expect_failure(weigh(FULL_DOCUMENT, length, &options), VISATB_ERROR_ARGUMENT,
                   "visatb_weights_compute: options->form = 9; expected a visatb_form");
    options.form = VISATB_FORM_OF_FILE;
    options.scores_sha256 = "xyz";
    expect_failure(
        weigh(FULL_DOCUMENT, length, &options), VISATB_ERROR_ARGUMENT,
        "visatb_weights_compute: options->scores_sha256 = \"xyz\"; expected 64 lower-case hexadecimal "
        "digits");
    options.size = 1;
    expect_failure(
        weigh(FULL_DOCUMENT, length, &options), VISATB_ERROR_ARGUMENT,
        "visatb_weights_compute: options->size = 1; expected 40 (start from VISATB_WEIGHTS_OPTIONS_INIT)");
}

static void files_that_cannot_be_read_are_named(void **state) {
    (void)state;
    visatb_scores *scores = NULL;
    expect_failure(visatb_scores_read("no/such/file.json", &scores), VISATB_ERROR_IO,
                   "no/such/file.json: cannot be opened: No such file or directory");
    expect_failure(visatb_scores_read(".", &scores), VISATB_ERROR_IO, ".: cannot be read: Is a directory");
    expect_failure(visatb_scores_read(NULL, &scores), VISATB_ERROR_ARGUMENT,
                   "visatb_scores_read: path is NULL; expected a file's path");
    expect_failure(visatb_scores_parse(NULL, 0, "x", &scores), VISATB_ERROR_ARGUMENT,
                   "visatb_scores_parse: text is NULL");
    assert_null(scores);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_document_itself_is_fine),
        cmocka_unit_test(text_that_is_not_json_is_refused_where_it_goes_wrong),
        cmocka_unit_test(settings_that_are_wrong_are_refused),
        cmocka_unit_test(sampling_that_is_wrong_is_refused),
        cmocka_unit_test(tasks_that_are_wrong_are_refused),
        cmocka_unit_test(groups_and_fixed_weights_that_are_wrong_are_refused),
        cmocka_unit_test(scores_that_are_missing_extra_or_no_numbers_are_refused),
        cmocka_unit_test(scores_that_cannot_carry_weights_are_refused),
        cmocka_unit_test(nothing_at_all_is_refused),
        cmocka_unit_test(text_that_is_not_utf8_is_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(keys_that_would_be_misread_are_quoted),
        cmocka_unit_test(too_few_and_too_many_tasks_are_refused),
        cmocka_unit_test(a_form_asks_for_its_own_runs),
        cmocka_unit_test(a_negative_denominator_passes_where_it_is_allowed),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
