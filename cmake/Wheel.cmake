# What a wheel has of this project beside the Python files: the library, and the licence.
function(visatb_install_into_wheel library)
  # A wheel keeps no links, so it takes the one file under the name that the package opens.
  install(FILES "${library}" DESTINATION visatb RENAME libvisatb.so)
  install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${SKBUILD_METADATA_DIR}/licenses")
endfunction()
