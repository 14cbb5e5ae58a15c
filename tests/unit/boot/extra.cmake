# The PMIx header is no dependency; where it is there, our declarations are compared with it.
pkg_check_modules(pmix IMPORTED_TARGET pmix)
if(pmix_FOUND)
  target_include_directories(test_pmix_abi SYSTEM PRIVATE ${pmix_INCLUDE_DIRS})
  target_compile_definitions(test_pmix_abi PRIVATE MESHCCL_HAVE_PMIX_HEADER)
endif()
