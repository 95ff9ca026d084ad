# kernel.neon: the tests here for aarch64, run under qemu. Headers of the host's libraries are taken one by one: the host's
# own C library must not be among them.
cmake_path(GET KVKEEP_GTEST_SOURCE PARENT_PATH gtest_root)
cmake_path(GET gtest_root PARENT_PATH gtest_root)
get_target_property(eigen_include Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
find_path(kvkeep_fmt_include fmt/format.h REQUIRED)
set(host_headers "${CMAKE_CURRENT_BINARY_DIR}/host_headers")
file(MAKE_DIRECTORY "${host_headers}")
file(CREATE_LINK "${kvkeep_fmt_include}/fmt" "${host_headers}/fmt" SYMBOLIC)

set(cross "${KVKEEP_AARCH64_CXX}" -std=c++20 -O2 -DFMT_HEADER_ONLY -isystem "${host_headers}" -isystem
          "${eigen_include}" -isystem "${gtest_root}/include" -I "${gtest_root}")
set(program "${CMAKE_CURRENT_BINARY_DIR}/kernel_neon")
add_custom_command(
  OUTPUT "${program}.gtest.o"
  COMMAND ${cross} -w -c "${KVKEEP_GTEST_SOURCE}" -o "${program}.gtest.o"
  VERBATIM)
set(objects "${program}.gtest.o")
foreach(test IN ITEMS kernel_test search_test)
  set(object "${program}.${test}.o")
  add_custom_command(
    OUTPUT "${object}"
    COMMAND ${cross} -Wall -Wextra -Werror -I "${PROJECT_SOURCE_DIR}/include" -c
            "${CMAKE_CURRENT_SOURCE_DIR}/${test}.cpp" -MD -MF "${object}.d" -MT "${object}" -o "${object}"
    DEPENDS ${test}.cpp
    DEPFILE "${object}.d"
    VERBATIM)
  list(APPEND objects "${object}")
endforeach()
add_custom_command(
  OUTPUT "${program}"
  COMMAND ${cross} -w ${objects} "${gtest_root}/src/gtest_main.cc" -static -pthread -o "${program}"
  DEPENDS ${objects}
  VERBATIM)
add_custom_target(kvkeep_kernel_neon ALL DEPENDS "${program}")
add_dependencies(kvkeep_tests kvkeep_kernel_neon)
add_test(NAME kernel.neon COMMAND "${KVKEEP_QEMU_AARCH64}" "${program}" --gtest_brief=1)
set_tests_properties(kernel.neon PROPERTIES LABELS kernel TIMEOUT 900)
