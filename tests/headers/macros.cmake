# cmake -DHEADERS=<path>|<path>... -P macros.cmake: fails when a header leaves a macro defined whose name lacks
# KVKEEP_.

cmake_minimum_required(VERSION 3.25)

string(REPLACE "|" ";" headers "${HEADERS}")
set(found "")
foreach(header IN LISTS headers)
  file(STRINGS "${header}" lines REGEX "^[ \t]*#[ \t]*define[ \t]")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^.*define[ \t]+([A-Za-z0-9_]+).*$" "\\1" name "${line}")
    file(STRINGS "${header}" undefined REGEX "^[ \t]*#[ \t]*undef[ \t]+${name}[ \t]*$")
    if(NOT name MATCHES "^KVKEEP_" AND NOT undefined)
      string(APPEND found "  ${header}: ${line}\n")
    endif()
  endforeach()
endforeach()
if(found)
  message(FATAL_ERROR "Macros without the prefix KVKEEP_:\n${found}")
endif()
