# cmake -DCOMPILER=<c++> -DFLAGS=<response file> -DINCLUDED=<header> -DSOURCE=<case.cpp> -P must_fail.cmake

cmake_minimum_required(VERSION 3.25)

set(ENV{LC_ALL} C) # messages in English, quotes in ASCII
unset(ENV{GCC_COLORS})

file(STRINGS "${SOURCE}" header LIMIT_COUNT 10)
set(sentence "")
set(flags "")
foreach(line IN LISTS header)
  if(line MATCHES "^// expect: *(.*[^ ]) *$")
    set(sentence "${CMAKE_MATCH_1}")
  elseif(line MATCHES "^// flags: *(.*[^ ]) *$")
    separate_arguments(flags UNIX_COMMAND "${CMAKE_MATCH_1}")
  endif()
endforeach()
if(sentence STREQUAL "")
  message(FATAL_ERROR "No line `// expect: <sentence>` among the first ten of\n  ${SOURCE}")
endif()

set(compile "${COMPILER}" "@${FLAGS}" ${flags} -fsyntax-only -include "${INCLUDED}")

execute_process(COMMAND ${compile} -DKVKEEP_GOOD "${SOURCE}" RESULT_VARIABLE status
                OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT status EQUAL 0)
  message(NOTICE "${output}")
  message(FATAL_ERROR "With KVKEEP_GOOD it does not compile:\n  ${SOURCE}")
endif()

execute_process(COMMAND ${compile} "${SOURCE}" RESULT_VARIABLE status
                OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "Without KVKEEP_GOOD it compiles:\n  ${SOURCE}")
endif()

string(REGEX MATCH "[^\n]*error:[^\n]*" first_error "${output}")
string(FIND "${first_error}" "${sentence}" where)
if(where EQUAL -1)
  message(NOTICE "${output}")
  message(FATAL_ERROR "The first error lacks the sentence:\n  ${SOURCE}\n  expected: ${sentence}\n  found: ${first_error}")
endif()
message(STATUS "${first_error}")
