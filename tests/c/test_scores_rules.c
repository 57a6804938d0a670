/* What a file may say that one example would not show: forms and their runs, odd names, numbers in and out,
 * and how a file is written. */
#include "score_documents.h"
#include "vectors.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder of one test. */
static char folder[64];

static int make_folder(void **state) {
    (void)state;
    (void)strcpy(folder, "/tmp/visatb-test-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"weights.json", "real.json", "link.json", "pipe", "large.json"};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
        (void)remove(names[k]);
    /* Fails where a test left anything else behind. */
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static visatb_weights *weights_of(const char *text) {
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    expect_ok(visatb_scores_parse(text, strlen(text), "scores.json", &scores));
    expect_ok(visatb_weights_compute(scores, NULL, &weights));
    visatb_scores_destroy(scores);
    return weights;
}

static void expect_refusal(const char *text, const char *message) {
    visatb_scores *scores = NULL;
    visatb_weights *weights = NULL;
    visatb_status status = visatb_scores_parse(text, strlen(text), "scores.json", &scores);
    if (status == VISATB_OK)
        status = visatb_weights_compute(scores, NULL, &weights);
    visatb_scores_destroy(scores);
    expect_failure(status, VISATB_ERROR_DATA, message);
}

static void the_precise_form_of_a_file_needs_all_four_kinds_of_runs(void **state) {
    (void)state;
    char *const more = edited(FULL_DOCUMENT, "\"mini\":{\"caption\"", MORE_RUNS "\"mini\":{\"caption\"");
    char *const precise = edited(more, "\"form\":\"full\"", "\"form\":\"precise\"");
    visatb_weights_destroy(weights_of(precise));
    static const char *const kinds[] = {"mini", "with_mini", "only", "mini_only"};
    for (int k = 0; k < 4; k++) {
        json_t *const scores = json_loads(precise, 0, NULL);
        (void)json_object_del(json_object_get(scores, "runs"), kinds[k]);
        char *const text = json_dumps(scores, 0);
        char message[64];
        (void)snprintf(message, sizeof message, "scores.json: runs.%s: missing", kinds[k]);
        expect_refusal(text, message);
        free(text);
        json_decref(scores);
    }
    free(precise);
    free(more);
}

static void a_difficulty_beyond_double_is_found_in_the_runs_that_it_compares(void **state) {
    (void)state;
    char *const more = edited(FULL_DOCUMENT, "\"mini\":{\"caption\"", MORE_RUNS "\"mini\":{\"caption\"");
    char *const precise = edited(more, "\"form\":\"full\"", "\"form\":\"precise\"");
    char *const small = edited(precise, "\"caption\":{\"cider\":0.8}", "\"caption\":{\"cider\":1e-308}");
    char *const apart = edited(small, "\"caption\":{\"cider\":0.2}", "\"caption\":{\"cider\":1e308}");
    expect_refusal(apart,
                   "scores.json: runs.only.caption.caption.cider: 1e+308 and 1e-308 are too far apart for a "
                   "finite result");
    free(apart);
    free(small);
    free(precise);
    free(more);
}

static void the_simple_form_scores_every_task_after_each_task_alone(void **state) {
    (void)state;
    char *const more = edited(FULL_DOCUMENT, "\"mini\":{\"caption\"", MORE_RUNS "\"mini\":{\"caption\"");
    char *const simple = edited(more, "\"form\":\"full\"", "\"form\":\"simple\"");
    visatb_weights_destroy(weights_of(simple));
    char *const one_less =
        edited(simple, "{\"cider\":0.8},\"vqa\":{\"em\":60,\"f1\":50},", "{\"cider\":0.8},");
    expect_refusal(one_less, "scores.json: runs.only.caption.vqa: missing");
    free(one_less);
    free(simple);
    free(more);
}

static void mini_may_be_as_large_as_large_and_the_range_may_be_1(void **state) {
    (void)state;
    char *const same = edited(FULL_DOCUMENT, "\"mini\":0.03125", "\"mini\":0.25");
    visatb_weights_destroy(weights_of(same));
    char *const narrow = edited(FULL_DOCUMENT, "[0.5,2.0]", "[1,1]");
    visatb_weights_destroy(weights_of(narrow));
    free(narrow);
    free(same);
}

static void a_byte_order_mark_is_passed_over(void **state) {
    (void)state;
    char *const text = edited("\xef\xbb\xbf@", "@", FULL_DOCUMENT);
    visatb_weights_destroy(weights_of(text));
    free(text);
}

static void names_longer_than_a_message_are_cut_between_characters(void **state) {
    (void)state;
    char name[2 * 700 + 1] = "";
    for (int k = 0; k < 700; k++)
        (void)strcat(name, "\xc3\xa9");
    json_t *const scores = json_loads(FULL_DOCUMENT, 0, NULL);
    json_t *const runs = json_object_get(scores, "runs"), *const with_mini =
                                                              json_object_get(runs, "with_mini");
    (void)json_object_set_new(json_array_get(json_object_get(scores, "tasks"), 0), "name", json_string(name));
    json_t *sets[] = {json_object_get(runs, "mini"), json_object_get(with_mini, "caption"),
                      json_object_get(with_mini, "vqa"), json_object_get(with_mini, "grounding")};
    for (int k = 0; k < 4; k++) {
        (void)json_object_set(sets[k], name, json_object_get(sets[k], "caption"));
        (void)json_object_del(sets[k], "caption");
    }
    (void)json_object_set(with_mini, name, sets[1]);
    (void)json_object_del(with_mini, "caption");
    /* vqa harms it, so that its name stands in a warning. */
    (void)json_object_set_new(json_object_get(sets[2], name), "cider", json_real(0.3));
    visatb_weights *const weights = weigh(scores, NULL);
    json_t *const document = document_of(weights); /* which parses: it is UTF-8 */
    assert_non_null(json_object_get(json_object_get(document, "weights"), name));
    assert_int_equal(json_array_size(json_object_get(document, "warnings")), 1);
    json_decref(document);
    visatb_weights_destroy(weights);
    json_decref(scores);
}

static void the_text_reads_back_to_the_same_bits(void **state) {
    (void)state;
    visatb_weights *const weights = weights_of(FULL_DOCUMENT);
    json_t *const document = document_of(weights);
    for (size_t t = 0; t < 5; t++) {
        const char *name = NULL;
        double weight = 0.0;
        expect_ok(visatb_weights_task(weights, t, &name, &weight));
        assert_true(number_of(json_object_get(document, "weights"), name) == weight);
    }
    json_decref(document);
    visatb_weights_destroy(weights);
}

static void a_file_of_many_pages_is_read_whole(void **state) {
    (void)state;
    FILE *const file = fopen("large.json", "wb");
    assert_non_null(file);
    (void)fprintf(file, "%300000s%s", "", FULL_DOCUMENT);
    (void)fclose(file);
    visatb_scores *scores = NULL;
    expect_ok(visatb_scores_read("large.json", &scores));
    visatb_scores_destroy(scores);
}

static void a_link_is_followed_and_the_mask_honoured(void **state) {
    (void)state;
    visatb_weights *const weights = weights_of(FULL_DOCUMENT);
    expect_ok(visatb_weights_write(weights, "real.json"));
    assert_int_equal(symlink("real.json", "link.json"), 0);
    assert_int_equal(truncate("real.json", 0), 0);
    expect_ok(visatb_weights_write(weights, "link.json"));
    struct stat link, real;
    assert_int_equal(lstat("link.json", &link), 0);
    assert_true(S_ISLNK(link.st_mode));
    assert_int_equal(stat("real.json", &real), 0);
    assert_true(real.st_size > 0);
    const mode_t mask = umask(022);
    (void)umask(mask);
    assert_int_equal(real.st_mode & 0777, 0666 & ~mask);
    visatb_weights_destroy(weights);
}

static void a_pipe_is_written_to_and_not_replaced(void **state) {
    (void)state;
    assert_int_equal(mkfifo("pipe", 0600), 0);
    const int reader = open("pipe", O_RDONLY | O_NONBLOCK);
    visatb_weights *const weights = weights_of(FULL_DOCUMENT);
    const char *text = NULL;
    size_t length = 0;
    expect_ok(visatb_weights_json(weights, &text, &length));
    expect_ok(visatb_weights_write(weights, "pipe"));
    char *const read_back = calloc(length + 1, 1);
    assert_int_equal(read(reader, read_back, length), (ssize_t)length);
    assert_string_equal(read_back, text);
    struct stat now;
    assert_int_equal(stat("pipe", &now), 0);
    assert_true(S_ISFIFO(now.st_mode));
    free(read_back);
    (void)close(reader);
    visatb_weights_destroy(weights);
}

static void *write_often(void *weights) {
    for (int k = 0; k < 30; k++) {
        if (visatb_weights_write(weights, "weights.json") != VISATB_OK)
            return weights;
    }
    return NULL;
}

static void writers_of_one_file_leave_it_whole_at_every_moment(void **state) {
    (void)state;
    visatb_weights *const weights = weights_of(FULL_DOCUMENT);
    expect_ok(visatb_weights_write(weights, "weights.json"));
    pthread_t writers[2];
    for (int k = 0; k < 2; k++)
        assert_int_equal(pthread_create(&writers[k], NULL, write_often, weights), 0);
    static const char *const names[] = {"vqa"};
    for (int k = 0; k < 200; k++) {
        float weight = 0.0F;
        expect_ok(visatb_weights_read("weights.json", 1, names, &weight));
    }
    for (int k = 0; k < 2; k++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(writers[k], &failed), 0);
        assert_null(failed);
    }
    visatb_weights_destroy(weights);
}

static void a_folder_is_no_file_to_write(void **state) {
    (void)state;
    visatb_weights *const weights = weights_of(FULL_DOCUMENT);
    expect_failure(visatb_weights_write(weights, "."), VISATB_ERROR_IO,
                   ".: cannot be written: Is a directory");
    visatb_weights_destroy(weights);
}

static void a_later_error_that_lies_in_no_file_has_no_path(void **state) {
    (void)state;
    expect_refusal("{\"visatb_scores\":2}", "scores.json: visatb_scores: unknown version 2; expected 1");
    assert_string_equal(visatb_last_error_path(), "visatb_scores");
    visatb_scores *scores = NULL;
    expect_failure(visatb_scores_read(NULL, &scores), VISATB_ERROR_ARGUMENT,
                   "visatb_scores_read: path is NULL; expected a file's path");
    assert_string_equal(visatb_last_error_path(), "");
}

#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_precise_form_of_a_file_needs_all_four_kinds_of_runs),
        cmocka_unit_test(a_difficulty_beyond_double_is_found_in_the_runs_that_it_compares),
        cmocka_unit_test(the_simple_form_scores_every_task_after_each_task_alone),
        cmocka_unit_test(mini_may_be_as_large_as_large_and_the_range_may_be_1),
        cmocka_unit_test(a_byte_order_mark_is_passed_over),
        cmocka_unit_test(names_longer_than_a_message_are_cut_between_characters),
        cmocka_unit_test(the_text_reads_back_to_the_same_bits),
        IN_A_FOLDER(a_file_of_many_pages_is_read_whole),
        IN_A_FOLDER(a_link_is_followed_and_the_mask_honoured),
        IN_A_FOLDER(a_pipe_is_written_to_and_not_replaced),
        IN_A_FOLDER(writers_of_one_file_leave_it_whole_at_every_moment),
        IN_A_FOLDER(a_folder_is_no_file_to_write),
        cmocka_unit_test(a_later_error_that_lies_in_no_file_has_no_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
