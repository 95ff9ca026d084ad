# cmake -DNM=<nm> -DFIRST=<object> -DSECOND=<object> -P shared_symbols.cmake
# Fails when both objects define a global or weak symbol of the same name that mentions namespace kvkeep, be it a
# function of ours or a standard template over a type of ours. Symbols of Eigen and std are counted, not judged.

cmake_minimum_required(VERSION 3.25)

function(symbols object result_ours result_others)
  execute_process(COMMAND "${NM}" --defined-only --extern-only "${object}" OUTPUT_VARIABLE text
                  RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${NM} could not read ${object}")
  endif()
  string(REGEX MATCHALL "[^\n]+" lines "${text}")
  list(TRANSFORM lines REPLACE "^[^ ]* +[^ ]+ +" "")
  set(ours ${lines})
  list(FILTER ours INCLUDE REGEX "6kvkeep") # the mangled name of the namespace
  list(FILTER lines EXCLUDE REGEX "6kvkeep")
  set(${result_ours} "${ours}" PARENT_SCOPE)
  set(${result_others} "${lines}" PARENT_SCOPE)
endfunction()

function(common first second result)
  set(rest ${first})
  if(second)
    list(REMOVE_ITEM rest ${second})
  endif()
  set(both ${first})
  if(rest)
    list(REMOVE_ITEM both ${rest})
  endif()
  set(${result} "${both}" PARENT_SCOPE)
endfunction()

symbols("${FIRST}" first_ours first_others)
symbols("${SECOND}" second_ours second_others)
list(LENGTH first_ours first_count)
list(LENGTH second_ours second_count)
if(first_count EQUAL 0 OR second_count EQUAL 0)
  message(FATAL_ERROR "An object defines no symbol of kvkeep (${first_count} and ${second_count}): nothing was tested.")
endif()

common("${first_ours}" "${second_ours}" shared)
common("${first_others}" "${second_others}" shared_others)
list(LENGTH shared count)
list(LENGTH shared_others count_others)
message(STATUS "symbols of kvkeep: ${first_count} and ${second_count}, ${count} of the same name; "
               "symbols of other libraries with the same name: ${count_others}")
if(shared)
  list(SUBLIST shared 0 20 shared)
  list(JOIN shared "\n  " shared)
  message(FATAL_ERROR "The two objects define the same symbols of kvkeep (${count}; c++filt reads them), e.g.\n  ${shared}")
endif()
