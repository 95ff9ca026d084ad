# kvkeep_project_options: warnings, sanitizers and instruction set of our own tests and programs.
# Never exported, never linked by the target kvkeep. Eigen, fmt and GoogleTest come as imported targets, so their
# include directories are system directories and their warnings stay silent.

add_library(kvkeep_project_options INTERFACE)

target_compile_options(
  kvkeep_project_options
  INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor
            $<$<BOOL:${KVKEEP_WERROR}>:-Werror> $<$<BOOL:${KVKEEP_NATIVE}>:-march=native>)

if(KVKEEP_SANITIZE)
  list(JOIN KVKEEP_SANITIZE "," kvkeep_sanitizers)
  target_compile_options(kvkeep_project_options INTERFACE -fsanitize=${kvkeep_sanitizers} -fno-sanitize-recover=all
                                                          -fno-omit-frame-pointer)
  target_link_options(kvkeep_project_options INTERFACE -fsanitize=${kvkeep_sanitizers})
endif()
