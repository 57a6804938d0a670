# jansson: the system's, else its pinned release. Defines the target visatb_jansson where there is one.
set(jansson_version 2.14)
set(jansson_url "https://github.com/akheron/jansson/releases/download/v${jansson_version}/jansson-${jansson_version}.tar.gz")
set(jansson_sha256 5798d010e41cf8d76b66236cfb2f2543c8d082181d16bc3085ab49538d4b9929)

find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(JANSSON QUIET IMPORTED_TARGET "jansson>=${jansson_version}")
endif()

if(JANSSON_FOUND)
  add_library(visatb_jansson ALIAS PkgConfig::JANSSON)
  set(VISATB_JANSSON_ORIGIN "jansson ${JANSSON_VERSION} (system)")
  return()
endif()

# AUTO must survive a machine without network, and FetchContent does not: so the archive is fetched here first.
set(jansson_archive "${CMAKE_BINARY_DIR}/jansson-${jansson_version}.tar.gz")
if(NOT FETCHCONTENT_SOURCE_DIR_JANSSON AND NOT EXISTS "${jansson_archive}")
  message(STATUS "jansson is not installed: fetching release ${jansson_version}")
  file(DOWNLOAD "${jansson_url}" "${jansson_archive}.part" STATUS jansson_status TIMEOUT 60)
  list(GET jansson_status 0 jansson_failed)
  if(jansson_failed)
    file(REMOVE "${jansson_archive}.part")
    if(VISATB_JSON STREQUAL "ON")
      message(FATAL_ERROR "VISATB_JSON=ON needs jansson: install it (Debian: libjansson-dev, Fedora: jansson-devel) "
        "or unpack its release and pass -DFETCHCONTENT_SOURCE_DIR_JANSSON=<folder>. Download: ${jansson_status}")
    endif()
    message(WARNING "libvisatb is built without score and weight files: jansson is neither installed (Debian: "
      "libjansson-dev) nor could it be fetched (${jansson_status})")
    return()
  endif()
  file(RENAME "${jansson_archive}.part" "${jansson_archive}")
endif()

include(FetchContent)
FetchContent_Declare(jansson URL "file://${jansson_archive}" URL_HASH SHA256=${jansson_sha256}
  DOWNLOAD_EXTRACT_TIMESTAMP OFF)
set(JANSSON_BUILD_DOCS OFF CACHE INTERNAL "")
set(JANSSON_BUILD_SHARED_LIBS OFF CACHE INTERNAL "")
set(JANSSON_EXAMPLES OFF CACHE INTERNAL "")
set(JANSSON_WITHOUT_TESTS ON CACHE INTERNAL "")
set(JANSSON_INSTALL OFF CACHE INTERNAL "")
set(CMAKE_POLICY_VERSION_MINIMUM 3.5)
FetchContent_MakeAvailable(jansson)
add_library(visatb_jansson INTERFACE)
target_link_libraries(visatb_jansson INTERFACE jansson)
target_include_directories(visatb_jansson SYSTEM INTERFACE "${jansson_BINARY_DIR}/include")
set(VISATB_JANSSON_ORIGIN "jansson ${jansson_version} (built in)")
