# cmake -DHEADERS=<path>|<path>... -P macros.cmake: fails when a header defines a macro whose name lacks KVKEEP_.

cmake_minimum_required(VERSION 3.25)

string(REPLACE "|" ";" headers "${HEADERS}")
set(found "")
foreach(header IN LISTS headers)
  file(STRINGS "${header}" lines REGEX "^[ \t]*#[ \t]*define[ \t]")
  foreach(line IN LISTS lines)
    if(NOT line MATCHES "define[ \t]+KVKEEP_")
      string(APPEND found "  ${header}: ${line}\n")
    endif()
  endforeach()
endforeach()
if(found)
  message(FATAL_ERROR "Macros without the prefix KVKEEP_:\n${found}")
endif()
