# Sourced by tests/run.sh --full. One step per line; logs in build/full/. What a step counted when it passed is kept in
# build/full.state under the state of the sources, so that a run that was cut off goes on where it stopped.

full_state=build/full.state
full_logs=build/full

# The commit, and what differs from it.
full_key() {
  if git rev-parse -q --verify HEAD >/dev/null 2>&1; then
    echo "$(git rev-parse HEAD)-$({ git diff HEAD; git ls-files -o --exclude-standard -z | xargs -0 -r cat; } | cksum | tr -s ' ' '-')"
  else
    echo "no-git-$(find . -path './build*' -prune -o -type f -print0 | sort -z | xargs -0 cat | cksum | tr -s ' ' '-')"
  fi
}

# step NAME FUNCTION...: a function that uses tests_ctest counts its tests, any other counts as one.
step() {
  name=$1
  shift
  if kept=$(grep -sF "$key $name " "$full_state"); then
    set -- $kept
    tests_count "$3" 0
    echo "passed before  $name"
    return
  fi
  started=$(date +%s)
  passed_before=$tests_passed failed_before=$tests_failed
  log=$full_logs/$name.log
  "$@" >"$log" 2>&1
  status=$?
  passed=$((tests_passed - passed_before)) failed=$((tests_failed - failed_before))
  took="$(($(date +%s) - started)) s"
  if [ "$status" -eq 77 ]; then
    echo "SKIPPED        $name: $(tail -n 1 "$log")"
  elif [ "$status" -eq 0 ] && [ "$failed" -eq 0 ]; then
    [ "$passed" -gt 0 ] || { tests_count 1 0; passed=1; }
    echo "$key $name $passed" >>"$full_state"
    echo "ok             $name ($took)"
  else
    [ "$failed" -gt 0 ] || tests_count 0 1
    echo "FAILED         $name ($took), see $log"
    tail -n 25 "$log" | sed 's/^/    /'
  fi
}

full_release() {
  (setup_build release) || return 1
  MESHCCL_TESTS_LONG=1 tests_ctest build
}

full_memory_long() {
  (setup_build asan-ubsan) || return 1
  MESHCCL_TESTS_LONG=1 tests_ctest build-asan -L "unit|fuzz|golden"
}

# All types, all operators.
full_product() {
  build/bin/all_reduce_perf --np 4 -b 8 -e 256K -f 8 -n 2 -w 1 -d all -o all
}

full_collective() { # PROGRAM RANKS
  build/bin/"$1" --np "$2" -b 8 -e 1M -f 8 -n 2 -w 1 -d all
}

# An odd number of elements, somewhere inside a page, on a stream.
full_odd() { # RANKS
  build/bin/all_reduce_perf --np "$1" -b 4194276 -e 4194276 -u 3 -y 0 -n 2 -w 1 -d all
}

full_large() { # RANKS TYPE OPERATOR
  build/bin/all_reduce_perf --np "$1" -b 1M -e 64M -f 4 -n 2 -w 1 -d "$2" -o "$3"
}

full_model() { # MODEL SCALE
  build/bin/workload_perf --np 4 --topo torus:2x2 -m "$1" -s "$2" -n 1 -w 1 -k 0
}

# The plan of one rank of a million, in under a second and under 100 MB.
full_million() {
  (ulimit -v 102400 && timeout 1 build/bin/meshccl plan mesh:1000x1062 all_reduce 1G --rank 531000 >"$full_logs/million.plan")
}

# Transports over UCX and MPI, where their packages are.
full_transports() {
  pkg-config --exists 'ucx >= 1.13' && ucx=ON || ucx=OFF
  command -v mpicc >/dev/null && mpi=ON || mpi=OFF
  if [ "$ucx$mpi" = OFFOFF ]; then
    echo "neither UCX (libucx-dev) nor MPI (libopenmpi-dev) is installed"
    return 77
  fi
  echo "UCX: $ucx, MPI: $mpi"
  cmake -S . -B build-transports -G Ninja -DCMAKE_BUILD_TYPE=Release -DMESHCCL_UCX=$ucx -DMESHCCL_MPI=$mpi \
    -DMESHCCL_PERF=OFF -DMESHCCL_EXAMPLES=OFF && cmake --build build-transports --parallel "$(nproc)" || return 1
  tests_ctest build-transports -R 'conformance_(ucx|mpi)'
}

full_run() {
  mkdir -p "$full_logs"
  key=$(full_key)
  step default-memory tier_memory
  step default-threads tier_threads
  step release full_release
  step million-ranks full_million
  step product full_product
  for ranks in 2 3 5 8; do
    for program in all_reduce all_gather reduce_scatter broadcast reduce alltoall gather scatter sendrecv barrier; do
      step "$program-$ranks" full_collective "${program}_perf" "$ranks"
    done
    step "odd-$ranks" full_odd "$ranks"
  done
  for ranks in 2 4; do
    step "large-float-sum-$ranks" full_large "$ranks" float sum
    step "large-bfloat16-max-$ranks" full_large "$ranks" bfloat16 max
  done
  step model-resnet50 full_model resnet50 1
  step model-bert-large full_model bert-large 0.1
  step model-gpt2-xl full_model gpt2-xl 0.02
  step model-llama3-8b full_model llama3-8b 0.004
  step transports full_transports
  step memory-long full_memory_long
  tests_close
}
