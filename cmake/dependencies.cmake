# The two libraries kvkeep needs. They are found, never downloaded; targets that a parent project made are used as they are.

if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 3.4 CONFIG QUIET)
  if(NOT Eigen3_FOUND)
    message(FATAL_ERROR "kvkeep needs Eigen 3.4 or newer, which was not found.\n"
                        "Debian and Ubuntu: apt-get install libeigen3-dev\n"
                        "Elsewhere: add its prefix to CMAKE_PREFIX_PATH or set Eigen3_DIR.")
  endif()
endif()

if(NOT TARGET fmt::fmt)
  find_package(fmt 9 CONFIG QUIET)
  if(NOT fmt_FOUND)
    message(FATAL_ERROR "kvkeep needs fmt 9 or newer, which was not found.\n"
                        "Debian and Ubuntu: apt-get install libfmt-dev\n"
                        "Elsewhere: add its prefix to CMAKE_PREFIX_PATH or set fmt_DIR.")
  endif()
endif()
