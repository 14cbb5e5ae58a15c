#!/bin/sh
# test_footprint.sh BIN_FOLDER: a communicator stays small and comes up at once. The limits are generous: 32 MiB and
# 100 ms are the goals.
bin=$1
. "$(dirname "$0")/lib.sh"

# at_most NAME COLUMN LIMIT: of the line for the last collective, in MiB.
at_most() {
  got=$(awk -v column="$2" '$1 == "barrier" { print $column }' "$scratch/out")
  awk -v got="$got" -v limit="$3" 'BEGIN { exit !(got != "" && got <= limit) }' && { echo "ok: $1: $got MiB"; return; }
  echo "FAILED: $1: $got MiB, at most $3"
  cat "$scratch/out"
  failed=$((failed + 1))
}

# Sanitizers keep shadows and freed memory: there only the library's shared memory counts.
sanitized=$(nm -D "$bin/footprint_perf" 2>/dev/null | grep -cE ' __(asan|tsan)_init')
for transport in shm tcp; do
  good "8 ranks over $transport" env MESHCCL_TRANSPORTS=self,$transport "$bin/footprint_perf" --np 8
  [ "$sanitized" -gt 0 ] || at_most "what all ranks hold over $transport" 2 44
  at_most "shared memory over $transport" 4 44
done

# The process that made the id, and listens for it, is none of the ranks: nobody may wait for it. On a loaded machine a
# start can be slow now and then.
prompt=0
for i in 1 2 3 4 5; do
  "$bin/footprint_perf" --np 4 -b 1K >"$scratch/out" 2>&1
  prompt=$((prompt + $(awk '$1 == "init" { print $2 < 1000; exit }' "$scratch/out")))
done
[ "$prompt" -ge 3 ] || { echo "FAILED: only $prompt of 5 starts took less than a second"; failed=$((failed + 1)); }

refused "no launcher but its own" 2 "no launcher" env MESHCCL_SIZE=2 MESHCCL_RANK=0 "$bin/footprint_perf" --np 2
refused "an unknown flag" 2 "nosuchflag" "$bin/footprint_perf" --nosuchflag
echo "$failed failed"
exit $((failed > 0))
