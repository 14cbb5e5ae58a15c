#!/usr/bin/env bash
# All tests, from a clean clone. Safe to run again: what is built stays built.
#
#   tests/run.sh          the default tier: address and undefined-behaviour sanitizers over everything at small sizes, the
#                         thread sanitizer over all that ranks share memory by; 25 minutes at most on two cores
#   tests/run.sh --full   everything, one step per line. What has passed on this commit is not run again
#
# The last line is "N passed, N failed". Exit status 0: nothing failed, and something ran.
set -u
cd "$(dirname "$0")/.." || exit 2
. .ci/setup.sh
. .ci/tests.sh
. tests/full.sh
tests_jobs=${MESHCCL_TESTS_JOBS:-2}
setup_needs="$setup_needs g++ time"

# Memory and undefined behaviour, everything at small sizes.
tier_memory() {
  (setup_build asan-ubsan) || { tests_count 0 1; return 1; }
  tests_ctest build-asan -LE long
}

# Data races, where ranks are threads over one memory.
tier_threads() {
  (setup_build tsan tests_threads) || { tests_count 0 1; return 1; }
  tests_ctest build-tsan -L threads -LE long
}

# One function, so that the shell has read all of it before it begins.
main() {
  case "${1-}" in
    "")
      (setup_packages) || return 2
      echo "== sanitizers: addresses, undefined behaviour"
      tier_memory
      echo "== sanitizer: threads"
      tier_threads
      tests_close
      ;;
    --full)
      (setup_packages) || return 2
      full_run
      ;;
    *)
      echo "usage: tests/run.sh [--full]" >&2
      return 2
      ;;
  esac
}
main "$@"
exit
