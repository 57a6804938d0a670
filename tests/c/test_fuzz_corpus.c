/* Replays the fuzzers' corpus, so that what they found stays mended on machines without libFuzzer. */
#include "../fuzz/fuzz_files.h"
#include "expect.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static void replay(const char *path) {
    FILE *const file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be opened", path);
    enum { LARGEST = 1 << 20 };
    /* Exactly as long as the input, so that a read past its end is seen. */
    uint8_t *buffer = malloc(LARGEST);
    const size_t size = fread(buffer, 1, LARGEST, file);
    (void)fclose(file);
    assert_true(size < LARGEST);
    buffer = realloc(buffer, size ? size : 1);
    (void)LLVMFuzzerTestOneInput(buffer, size);
    free(buffer);
}

static void every_file_of_the_corpus_is_survived(void **state) {
    (void)state;
    DIR *const folder = opendir(VISATB_FUZZ_CORPUS);
    assert_non_null(folder);
    size_t count = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] == '.')
            continue;
        char path[2048];
        (void)snprintf(path, sizeof path, "%s/%s", VISATB_FUZZ_CORPUS, entry->d_name);
        replay(path);
        count++;
    }
    (void)closedir(folder);
    print_message("%zu inputs replayed\n", count);
    assert_true(count >= 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_file_of_the_corpus_is_survived)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
