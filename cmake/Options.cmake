# Compiler settings shared by the library, its tests and its fuzzers.
add_library(visatb_options INTERFACE)
target_compile_options(visatb_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes
  # One code path gives the same bits everywhere: the compiler must not fuse multiplies and adds as it likes.
  -ffp-contract=off)

if(VISATB_SANITIZE)
  target_compile_options(visatb_options INTERFACE
    -fsanitize=${VISATB_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(visatb_options INTERFACE -fsanitize=${VISATB_SANITIZE})
endif()
