# Installs the shared library, the public headers, the programs, the workloads, and what pkg-config and find_package read.
# Everything finds everything by relative paths: an installed tree can be moved as a whole.
include(CMakePackageConfigHelpers)

function(meshccl_relative out from to)
  file(RELATIVE_PATH relative /prefix/${from} /prefix/${to})
  string(REGEX REPLACE "/$" "" relative "${relative}")
  set(${out} "${relative}" PARENT_SCOPE)
endfunction()

target_include_directories(meshccl INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(TARGETS meshccl EXPORT meshcclTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/meshccl DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN *.h)

# ---- programs
set(programs)
foreach(folder src/tools perf)
  if(IS_DIRECTORY ${PROJECT_BINARY_DIR}/${folder})
    get_property(targets DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} PROPERTY BUILDSYSTEM_TARGETS)
    foreach(target ${targets})
      get_target_property(type ${target} TYPE)
      if(type STREQUAL EXECUTABLE)
        list(APPEND programs ${target})
      endif()
    endforeach()
  endif()
endforeach()
if(programs)
  meshccl_relative(library_folder ${CMAKE_INSTALL_BINDIR} ${CMAKE_INSTALL_LIBDIR})
  set_target_properties(${programs} PROPERTIES INSTALL_RPATH "\$ORIGIN/${library_folder}")
  install(TARGETS ${programs} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(MESHCCL_PERF)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/perf/workloads DESTINATION ${CMAKE_INSTALL_DATADIR}/meshccl)
endif()

# ---- machines, found by name beside the library; in the build folder just as in an installed tree
install(DIRECTORY ${PROJECT_SOURCE_DIR}/topo/machines DESTINATION ${CMAKE_INSTALL_DATADIR}/meshccl FILES_MATCHING PATTERN *.yaml)
file(GLOB machines CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/topo/machines/*.yaml)
foreach(machine ${machines})
  get_filename_component(machine_name ${machine} NAME)
  configure_file(${machine} ${PROJECT_BINARY_DIR}/share/meshccl/machines/${machine_name} COPYONLY)
endforeach()

# ---- pkg-config
meshccl_relative(prefix_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig .)
configure_file(${PROJECT_SOURCE_DIR}/cmake/meshccl.pc.in ${PROJECT_BINARY_DIR}/meshccl.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/meshccl.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# ---- CMake package: find_package(meshccl), target meshccl::meshccl
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/meshccl)
install(EXPORT meshcclTargets NAMESPACE meshccl:: DESTINATION ${package_folder})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/meshcclConfig.cmake.in ${PROJECT_BINARY_DIR}/meshcclConfig.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/meshcclConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/meshcclConfig.cmake ${PROJECT_BINARY_DIR}/meshcclConfigVersion.cmake
  DESTINATION ${package_folder})
