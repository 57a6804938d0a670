# OpenBLAS is opened at run time, at the first product, and nothing is built with it. So this only says what is there
# now; sets VISATB_OPENBLAS_ORIGIN.
find_library(VISATB_OPENBLAS NAMES openblas libopenblas.so.0 PATH_SUFFIXES openblas-pthread openblas
  DOC "An OpenBLAS, looked for so that its absence can be told")
mark_as_advanced(VISATB_OPENBLAS)
if(VISATB_OPENBLAS)
  set(VISATB_OPENBLAS_ORIGIN "${VISATB_OPENBLAS}, opened at first use")
elseif(VISATB_BLAS STREQUAL "ON")
  message(FATAL_ERROR "VISATB_BLAS=ON needs OpenBLAS: install it (Debian: libopenblas0-pthread, Fedora: openblas), "
    "pass -DVISATB_OPENBLAS=<file>, or take VISATB_BLAS=AUTO, which looks for it when the library first multiplies")
else()
  set(VISATB_OPENBLAS_ORIGIN "not here now, looked for at first use")
endif()
