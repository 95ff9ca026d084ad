# Stops the configuration when the package does not match the headers.

# A header missing from cmake/headers.cmake would be missing from every installed copy.
file(GLOB_RECURSE kvkeep_on_disk RELATIVE "${PROJECT_SOURCE_DIR}" CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/include/*")
set(kvkeep_unlisted ${kvkeep_on_disk})
list(REMOVE_ITEM kvkeep_unlisted ${KVKEEP_HEADERS})
set(kvkeep_absent ${KVKEEP_HEADERS})
list(REMOVE_ITEM kvkeep_absent ${kvkeep_on_disk})

if(kvkeep_unlisted OR kvkeep_absent)
  set(kvkeep_difference "")
  foreach(header IN LISTS kvkeep_unlisted)
    string(APPEND kvkeep_difference "  on disk, not in the list: ${header}\n")
  endforeach()
  foreach(header IN LISTS kvkeep_absent)
    string(APPEND kvkeep_difference "  in the list, not on disk: ${header}\n")
  endforeach()
  message(FATAL_ERROR "cmake/headers.cmake differs from include/:\n${kvkeep_difference}"
                      "Run: cmake -P cmake/update-headers.cmake")
endif()

# The version is written twice, here for packages and in config.hpp for the preprocessor.
file(STRINGS "${PROJECT_SOURCE_DIR}/include/kvkeep/core/config.hpp" kvkeep_lines REGEX "define KVKEEP_VERSION_")
string(REGEX REPLACE "[^0-9]*([0-9]+)[^0-9]*" "\\1." kvkeep_header_version "${kvkeep_lines}")
if(NOT kvkeep_header_version STREQUAL "${PROJECT_VERSION}.")
  message(FATAL_ERROR "CMakeLists.txt is version ${PROJECT_VERSION}, include/kvkeep/core/config.hpp is "
                      "${kvkeep_header_version}")
endif()
