# Sixty runs of several million messages.
set_tests_properties(test_holes PROPERTIES LABELS "unit;long" TIMEOUT 3600)

# Several thousand simulations: a minute.
add_test(NAME test_regret_all COMMAND test_regret --all)
set_tests_properties(test_regret_all PROPERTIES LABELS "unit;long" TIMEOUT 1800)

# All shapes when MESHCCL_TESTS_LONG is set.
set_tests_properties(test_all_shapes PROPERTIES TIMEOUT 3600)
# A hundred runs of up to a million messages.
set_tests_properties(test_goals PROPERTIES LABELS "unit;long" TIMEOUT 3600)

# All shapes and numbers of chunks: minutes.
add_test(NAME test_sweep_all COMMAND test_sweep)
set_tests_properties(test_sweep_all PROPERTIES LABELS "unit;long" TIMEOUT 3600 ENVIRONMENT MESHCCL_TESTS_LONG=1)
