# The shipped machines.
target_compile_definitions(test_machine PRIVATE MACHINES="${PROJECT_SOURCE_DIR}/topo/machines")
