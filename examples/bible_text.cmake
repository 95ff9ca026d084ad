# cmake -DOUTPUT=<file> -P bible_text.cmake: writes the King James Bible, one verse a line, 4.4 MB.

cmake_minimum_required(VERSION 3.25)

find_program(BIBLE bible PATHS /usr/games)
if(NOT BIBLE)
  message(FATAL_ERROR "The program `bible`, which supplies the demo's text, was not found.\n"
                      "Debian and Ubuntu: apt-get install bible-kjv")
endif()

execute_process(COMMAND "${BIBLE}" -f gen1:1-rev22:21 OUTPUT_FILE "${OUTPUT}.part" ERROR_VARIABLE errors
                RESULT_VARIABLE status)
file(SIZE "${OUTPUT}.part" size)
if(NOT status EQUAL 0 OR size LESS 4000000)
  file(REMOVE "${OUTPUT}.part")
  message(FATAL_ERROR "${BIBLE} -f gen1:1-rev22:21 ended with status ${status} and ${size} bytes of text.\n${errors}")
endif()
file(RENAME "${OUTPUT}.part" "${OUTPUT}")
