# kvkeep::hnsw: kvkeep::kvkeep and the headers of hnswlib, for kvkeep/memory/hnsw_index.hpp. Made where hnswlib is found; nothing
# else needs it. A target hnswlib::hnswlib that a parent project made is used as it is.

include("${CMAKE_CURRENT_LIST_DIR}/find-hnswlib.cmake")

if(KVKEEP_HNSW)
  kvkeep_find_hnswlib()
  if(NOT TARGET hnswlib::hnswlib AND NOT KVKEEP_HNSW STREQUAL "AUTO")
    message(FATAL_ERROR "KVKEEP_HNSW is ${KVKEEP_HNSW}, but hnswlib was not found.\n"
                        "Debian and Ubuntu: apt-get install libhnswlib-dev\n"
                        "Elsewhere: add its prefix to CMAKE_PREFIX_PATH. Or configure with -DKVKEEP_HNSW=AUTO.")
  endif()
endif()

if(KVKEEP_HNSW AND TARGET hnswlib::hnswlib)
  add_library(kvkeep_hnsw INTERFACE)
  add_library(kvkeep::hnsw ALIAS kvkeep_hnsw)
  set_target_properties(kvkeep_hnsw PROPERTIES EXPORT_NAME hnsw)
  target_link_libraries(kvkeep_hnsw INTERFACE kvkeep hnswlib::hnswlib)
elseif(PROJECT_IS_TOP_LEVEL)
  message(STATUS "kvkeep::hnsw is left out: hnswlib was not found, or KVKEEP_HNSW is OFF")
endif()
