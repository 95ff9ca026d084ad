# cmake -DCLANG_FORMAT=<program> -DROOT=<source directory> [-DFIX=ON] -P format.cmake

cmake_minimum_required(VERSION 3.25)

set(patterns "")
foreach(directory IN ITEMS include tests examples bench)
  foreach(extension IN ITEMS hpp cpp h)
    list(APPEND patterns "${ROOT}/${directory}/*.${extension}")
  endforeach()
endforeach()
file(GLOB_RECURSE files ${patterns})

if(FIX)
  set(mode -i)
else()
  set(mode --dry-run -Werror)
endif()
execute_process(COMMAND "${CLANG_FORMAT}" ${mode} --style=file ${files} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "Some files are not formatted. Run: cmake --build <build directory> --target format")
endif()
