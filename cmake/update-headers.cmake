# cmake -P cmake/update-headers.cmake: writes cmake/headers.cmake from what is in include/.

cmake_minimum_required(VERSION 3.25)
get_filename_component(root "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)
file(GLOB_RECURSE headers RELATIVE "${root}" "${root}/include/*")
list(SORT headers)
list(JOIN headers "\n    " lines)
file(CONFIGURE OUTPUT "${root}/cmake/headers.cmake" @ONLY CONTENT
"# Every public header, in alphabetical order. Written by: cmake -P cmake/update-headers.cmake

set(KVKEEP_HEADERS
    @lines@)
")
list(LENGTH headers count)
message(STATUS "cmake/headers.cmake: ${count} headers")
