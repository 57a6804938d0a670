#include "cpu_paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

bool cpu_path_runs(visatb_cpu_path path) {
    static bool said[CPU_PATHS + 1];
    visatb_cpu_path taken = VISATB_CPU_AUTO;
    const visatb_status status = visatb_cpu_path_taken(path, &taken);
    if (status == VISATB_OK) {
        assert_int_equal(taken, path);
        return true;
    }
    assert_int_equal(status, VISATB_ERROR_UNSUPPORTED);
    if (!said[path])
        print_message("skipped: %s\n", visatb_last_error());
    said[path] = true;
    return false;
}
