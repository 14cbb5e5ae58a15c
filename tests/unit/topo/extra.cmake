# The shipped machines.
foreach(name test_machine test_topo_api)
  target_compile_definitions(${name} PRIVATE MACHINES="${PROJECT_SOURCE_DIR}/topo/machines")
endforeach()
