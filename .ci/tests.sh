# Sourced by tests/run.sh: counting over several runs of ctest, and environments in which sanitizers work.

tests_passed=0
tests_failed=0
tests_closings=

tests_count() { # PASSED FAILED
  tests_passed=$((tests_passed + $1))
  tests_failed=$((tests_failed + $2))
}

# The last lines of a run: how each ctest ended, and the sum. Fails when something failed or nothing ran.
tests_close() {
  printf '\n%s' "$tests_closings"
  echo "$tests_passed passed, $tests_failed failed"
  [ "$tests_failed" -eq 0 ] && [ "$tests_passed" -gt 0 ]
}

# Sanitizers find their places only when the kernel does not scatter mappings too far.
tests_steady() {
  if setarch "$(uname -m)" -R true 2>/dev/null; then
    setarch "$(uname -m)" -R "$@"
  else
    "$@"
  fi
}

# A number of the head of ctest's JUnit file: tests, failures, skipped.
tests_junit() { # FILE NAME
  sed -n '/<testsuite/,/>/s/.*[[:space:]]'"$2"'="\([0-9]*\)".*/\1/p' "$1" | head -n 1
}

# tests_ctest BUILD_FOLDER [CTEST FLAGS]: runs and counts. Skipped tests are neither passed nor failed.
tests_ctest() {
  tests_folder=$1
  shift
  rm -f "$tests_folder/junit.xml" "$tests_folder/ctest.log"
  tests_steady ctest --test-dir "$tests_folder" --output-junit junit.xml --output-log "$tests_folder/ctest.log" --output-on-failure \
    --no-tests=error -j "$tests_jobs" "$@"
  tests_status=$?
  tests_closings="$tests_closings$tests_folder: $(grep -s ' tests passed, ' "$tests_folder/ctest.log")
"
  if [ -f "$tests_folder/junit.xml" ]; then
    tests_all=$(tests_junit "$tests_folder/junit.xml" tests)
    tests_bad=$(tests_junit "$tests_folder/junit.xml" failures)
    tests_skip=$(tests_junit "$tests_folder/junit.xml" skipped)
    tests_off=$(tests_junit "$tests_folder/junit.xml" disabled)
    tests_count $((tests_all - tests_bad - tests_skip - tests_off)) "$tests_bad"
    [ "$tests_status" -eq 0 ] || [ "$tests_bad" -gt 0 ] || tests_count 0 1
  else
    tests_count 0 1
  fi
  return "$tests_status"
}
