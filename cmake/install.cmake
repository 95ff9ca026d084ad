# Install and export rules. They exist for subprojects too, so that a parent that installs and exports a target linked
# to kvkeep::kvkeep always configures; with KVKEEP_INSTALL off nothing of kvkeep is installed unless the component
# "kvkeep" is asked for by name.

include(CMakePackageConfigHelpers)

set(kvkeep_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/kvkeep") # not LIBDIR: nothing here depends on the machine

if(KVKEEP_INSTALL)
  set(kvkeep_install_scope COMPONENT kvkeep)
else()
  set(kvkeep_install_scope COMPONENT kvkeep EXCLUDE_FROM_ALL)
endif()

configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/kvkeep-config.cmake.in" "${PROJECT_BINARY_DIR}/kvkeep-config.cmake"
  INSTALL_DESTINATION "${kvkeep_package_dir}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/kvkeep-config-version.cmake" COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)

install(TARGETS kvkeep EXPORT kvkeep-targets FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
                                                              ${kvkeep_install_scope})
if(TARGET kvkeep_hnsw)
  install(TARGETS kvkeep_hnsw EXPORT kvkeep-hnsw-targets ${kvkeep_install_scope})
  install(EXPORT kvkeep-hnsw-targets NAMESPACE kvkeep:: DESTINATION "${kvkeep_package_dir}" ${kvkeep_install_scope})
  export(EXPORT kvkeep-hnsw-targets NAMESPACE kvkeep:: FILE "${PROJECT_BINARY_DIR}/kvkeep-hnsw-targets.cmake")
else()
  file(REMOVE "${PROJECT_BINARY_DIR}/kvkeep-hnsw-targets.cmake") # of a configuration that had it
endif()
install(EXPORT kvkeep-targets NAMESPACE kvkeep:: DESTINATION "${kvkeep_package_dir}" ${kvkeep_install_scope})
configure_file("${CMAKE_CURRENT_LIST_DIR}/find-hnswlib.cmake" "${PROJECT_BINARY_DIR}/find-hnswlib.cmake" COPYONLY)
install(FILES "${PROJECT_BINARY_DIR}/kvkeep-config.cmake" "${PROJECT_BINARY_DIR}/kvkeep-config-version.cmake"
              "${CMAKE_CURRENT_LIST_DIR}/find-hnswlib.cmake"
        DESTINATION "${kvkeep_package_dir}" ${kvkeep_install_scope})
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/kvkeep" ${kvkeep_install_scope})

# The build tree is a package too: -Dkvkeep_DIR=<build directory>.
export(EXPORT kvkeep-targets NAMESPACE kvkeep:: FILE "${PROJECT_BINARY_DIR}/kvkeep-targets.cmake")
