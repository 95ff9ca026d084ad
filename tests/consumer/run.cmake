# cmake -DSETTINGS=<settings.cmake> -DCASE=<case> -P run.cmake

cmake_minimum_required(VERSION 3.25)

include("${SETTINGS}")
set(work "${WORK}/${CASE}")
file(REMOVE_RECURSE "${work}")
file(MAKE_DIRECTORY "${work}")

# run(<command>...) stops on failure; its text is in `output`.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(NOTICE "${output}")
    message(FATAL_ERROR "consumer.${CASE}: failed (${status}):\n  ${command}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# configure(<source> <build> <-D...>...)
set(configure_command "${CMAKE_COMMAND}" -G "${GENERATOR}" "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}"
                      "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0)
if(TOOLCHAIN)
  list(APPEND configure_command "-DCMAKE_TOOLCHAIN_FILE=${TOOLCHAIN}")
endif()

function(configure source build)
  run(${configure_command} -S "${source}" -B "${build}" ${ARGN})
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(build_and_run build)
  run("${CMAKE_COMMAND}" --build "${build}" --config Debug)
  if(EXISTS "${build}/Debug/consumer")
    run("${build}/Debug/consumer")
  else()
    run("${build}/consumer")
  endif()
endfunction()

# must_not_contain(<file> <regex>)
function(must_not_contain file regex)
  file(READ "${file}" text)
  if(text MATCHES "${regex}")
    message(FATAL_ERROR "consumer.${CASE}: ${file} contains \"${CMAKE_MATCH_0}\"")
  endif()
endfunction()

# search_also_in(<prefix>): for packages, before the prefixes of the outer build.
function(search_also_in prefix)
  cmake_path(CONVERT "${prefix};${PREFIX_PATH}" TO_NATIVE_PATH_LIST joined)
  set(ENV{CMAKE_PREFIX_PATH} "${joined}")
endfunction()

if(CASE STREQUAL "find_package")
  run("${CMAKE_COMMAND}" --install "${BUILD}" --config "${CONFIG}" --prefix "${work}/prefix")
  search_also_in("${work}/prefix")
  configure("${CASES}/find_package" "${work}/build" "-DEXPECTED_PREFIX=${work}/prefix"
            "-DEXPECTED_VERSION=${VERSION}" "-DEXPECTED_HNSW=${HNSW}")
  build_and_run("${work}/build")

  # The installed package names no path of this machine and no compiler flag.
  file(GLOB package_files "${work}/prefix/share/cmake/kvkeep/*.cmake")
  if(NOT package_files)
    message(FATAL_ERROR "consumer.${CASE}: no package files under ${work}/prefix/share/cmake/kvkeep")
  endif()
  foreach(file IN LISTS package_files)
    must_not_contain("${file}" "-march|-mavx|-ffast-math|-Wall|INTERFACE_COMPILE_OPTIONS|INTERFACE_LINK_OPTIONS")
    file(READ "${file}" text)
    foreach(path IN ITEMS "${SOURCE}" "${BUILD}")
      string(FIND "${text}" "${path}" where)
      if(NOT where EQUAL -1)
        message(FATAL_ERROR "consumer.${CASE}: ${file} names ${path}")
      endif()
    endforeach()
  endforeach()

  # A version that does not exist is refused.
  execute_process(COMMAND ${configure_command} -S "${CASES}/version_refused" -B "${work}/refused"
                  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(status EQUAL 0)
    message(FATAL_ERROR "consumer.${CASE}: find_package(kvkeep 99) was accepted")
  endif()
  string(FIND "${output}" "requested version \"99\"" where)
  if(where EQUAL -1)
    message(NOTICE "${output}")
    message(FATAL_ERROR "consumer.${CASE}: find_package(kvkeep 99) failed for another reason")
  endif()

  # Header-only: the package serves any pointer size.
  set(CMAKE_SIZEOF_VOID_P 4)
  set(PACKAGE_FIND_VERSION "${VERSION}")
  string(REGEX MATCH "^[0-9]+" PACKAGE_FIND_VERSION_MAJOR "${VERSION}")
  string(REGEX REPLACE "^[0-9]+\\.([0-9]+).*" "\\1" PACKAGE_FIND_VERSION_MINOR "${VERSION}")
  include("${work}/prefix/share/cmake/kvkeep/kvkeep-config-version.cmake")
  if(PACKAGE_VERSION_UNSUITABLE OR NOT PACKAGE_VERSION_COMPATIBLE)
    message(FATAL_ERROR "consumer.${CASE}: the package is refused for 32-bit programs")
  endif()

elseif(CASE STREQUAL "build_tree")
  configure("${CASES}/find_package" "${work}/build" "-Dkvkeep_DIR=${BUILD}" "-DEXPECTED_PREFIX=${BUILD}"
            "-DEXPECTED_VERSION=${VERSION}" "-DEXPECTED_HNSW=${HNSW}")

elseif(CASE STREQUAL "add_subdirectory")
  configure("${CASES}/add_subdirectory" "${work}/build" "-DKVKEEP_SOURCE=${SOURCE}")
  build_and_run("${work}/build")
  # Nothing but the library is built, and nothing of it is installed uninvited.
  run("${CMAKE_COMMAND}" --install "${work}/build" --config Debug --prefix "${work}/prefix")
  if(EXISTS "${work}/prefix/include/kvkeep")
    message(FATAL_ERROR "consumer.${CASE}: the parent's installation contains kvkeep's headers")
  endif()

elseif(CASE STREQUAL "fetch_content")
  configure("${CASES}/fetch_content" "${work}/build" "-DFETCHCONTENT_SOURCE_DIR_KVKEEP=${SOURCE}"
            -DFETCHCONTENT_FULLY_DISCONNECTED=ON)
  build_and_run("${work}/build")

elseif(CASE STREQUAL "copied_headers")
  file(COPY "${SOURCE}/include" DESTINATION "${work}/copied")
  set(includes "-I${work}/copied/include")
  foreach(directory IN LISTS EIGEN_INCLUDES FMT_INCLUDES)
    list(APPEND includes "-I${directory}")
  endforeach()
  run("${COMPILER}" -std=c++20 ${includes} "${CASES}/main.cpp" -o "${work}/consumer" "-L${FMT_DIRECTORY}" -lfmt)
  run("${work}/consumer")

elseif(CASE STREQUAL "exporting_parent")
  # A parent that exports a target linked to kvkeep configures and installs without installing kvkeep ...
  configure("${CASES}/exporting_parent" "${work}/without" "-DKVKEEP_SOURCE=${SOURCE}")
  run("${CMAKE_COMMAND}" --install "${work}/without" --config Debug --prefix "${work}/prefix_without")
  if(EXISTS "${work}/prefix_without/include/kvkeep")
    message(FATAL_ERROR "consumer.${CASE}: the parent's installation contains kvkeep's headers")
  endif()
  # ... until its own component is asked for ...
  run("${CMAKE_COMMAND}" --install "${work}/without" --config Debug --prefix "${work}/prefix_without" --component kvkeep)
  if(NOT EXISTS "${work}/prefix_without/include/kvkeep/kvkeep.hpp")
    message(FATAL_ERROR "consumer.${CASE}: --component kvkeep does not install kvkeep's headers")
  endif()
  # ... or with KVKEEP_INSTALL together with it; then a third project uses both from one prefix.
  configure("${CASES}/exporting_parent" "${work}/with" "-DKVKEEP_SOURCE=${SOURCE}" -DKVKEEP_INSTALL=ON)
  run("${CMAKE_COMMAND}" --install "${work}/with" --config Debug --prefix "${work}/prefix_with")
  search_also_in("${work}/prefix_with")
  configure("${CASES}/exporting_parent/downstream" "${work}/downstream")
  build_and_run("${work}/downstream")

else()
  message(FATAL_ERROR "unknown case: ${CASE}")
endif()
