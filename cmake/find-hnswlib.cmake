# kvkeep_find_hnswlib(): the target hnswlib::hnswlib, if hnswlib is there: from its own package, or its headers alone, which are
# all that Debian installs. Part of the installed package too.

function(kvkeep_find_hnswlib)
  if(NOT TARGET hnswlib::hnswlib)
    find_package(hnswlib CONFIG QUIET GLOBAL)
  endif()
  if(NOT TARGET hnswlib::hnswlib)
    find_path(KVKEEP_HNSWLIB_INCLUDE_DIR hnswlib/hnswlib.h)
    mark_as_advanced(KVKEEP_HNSWLIB_INCLUDE_DIR)
    if(KVKEEP_HNSWLIB_INCLUDE_DIR)
      add_library(hnswlib::hnswlib INTERFACE IMPORTED GLOBAL)
      target_include_directories(hnswlib::hnswlib SYSTEM INTERFACE "${KVKEEP_HNSWLIB_INCLUDE_DIR}")
    endif()
  endif()
endfunction()
