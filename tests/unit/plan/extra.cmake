# Sixty runs of several million messages.
set_tests_properties(test_holes PROPERTIES LABELS "unit;long" TIMEOUT 3600)
