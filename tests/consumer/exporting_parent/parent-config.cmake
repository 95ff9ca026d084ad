include(CMakeFindDependencyMacro)
find_dependency(kvkeep 0.1 CONFIG)
include("${CMAKE_CURRENT_LIST_DIR}/parent-targets.cmake")
