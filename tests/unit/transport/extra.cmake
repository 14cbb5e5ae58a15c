# Plugins for test_registry: a good one, one of another ABI, and a library that is none.
foreach(kind GOOD OTHER_ABI NO_SYMBOL)
  add_library(test_plugin_${kind} MODULE ${CMAKE_CURRENT_LIST_DIR}/plugin.c)
  target_compile_definitions(test_plugin_${kind} PRIVATE ${kind})
  target_link_libraries(test_plugin_${kind} PRIVATE mci_flags)
  set_target_properties(test_plugin_${kind} PROPERTIES PREFIX "" C_VISIBILITY_PRESET default)
  target_compile_definitions(test_registry PRIVATE PLUGIN_${kind}="$<TARGET_FILE:test_plugin_${kind}>")
  add_dependencies(test_registry test_plugin_${kind})
endforeach()
