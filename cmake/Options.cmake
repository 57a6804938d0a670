# Brings a switch of AUTO, ON or OFF into that spelling; anything else is refused and not taken for AUTO.
function(visatb_read_switch name)
  string(TOUPPER "${${name}}" value)
  if(value MATCHES "^(ON|TRUE|YES|Y|1)$")
    set(value ON)
  elseif(value MATCHES "^(OFF|FALSE|NO|N|0)$")
    set(value OFF)
  elseif(NOT value STREQUAL "AUTO")
    message(FATAL_ERROR "${name}=${${name}}: expected AUTO, ON or OFF")
  endif()
  set(${name} ${value} PARENT_SCOPE)
endfunction()

# Compiler settings shared by the library, its tests and its fuzzers. CUDA's compiler hands what it makes to the host's,
# which would warn of code that nobody wrote.
set(visatb_c_and_cxx "$<COMPILE_LANGUAGE:C,CXX>")
add_library(visatb_options INTERFACE)
target_compile_options(visatb_options INTERFACE
  $<${visatb_c_and_cxx}:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow>
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes;-Wmissing-prototypes>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics>
  # One code path gives the same bits everywhere: the compiler must not fuse multiplies and adds as it likes.
  $<${visatb_c_and_cxx}:-ffp-contract=off>)

if(VISATB_SANITIZE)
  target_compile_options(visatb_options INTERFACE
    $<${visatb_c_and_cxx}:-fsanitize=${VISATB_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g>)
  target_link_options(visatb_options INTERFACE -fsanitize=${VISATB_SANITIZE})
endif()
