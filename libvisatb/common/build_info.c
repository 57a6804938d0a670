#include "visatb.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

#define VERSION TEXT(VISATB_VERSION_MAJOR) "." TEXT(VISATB_VERSION_MINOR) "." TEXT(VISATB_VERSION_PATCH)

const char *visatb_version(void) {
    return VERSION;
}

const char *visatb_build_info(void) {
    return "version: " VERSION "\n"
           "compiler: " __VERSION__ "\n"
           "json: " VISATB_BUILD_JSON "\n"
           "cpu loss: portable\n"
           "cuda: no\n";
}
