#!/usr/bin/env bash
# meshccl plan: its table, its JSON, its refusals, and that one rank of a million is planned in little memory.
set -u
tool=$1
failed=0

fail() {
  echo "FAILED: $*" >&2
  failed=1
}

# expect STATUS PATTERN ARGUMENTS: the exit status, and a pattern in what is printed.
expect() {
  local status=$1 pattern=$2 text got
  shift 2
  text=$("$tool" plan "$@" 2>&1)
  got=$?
  [ "$got" = "$status" ] || fail "plan $*: status $got, expected $status: $text"
  grep -Eq -- "$pattern" <<<"$text" || fail "plan $*: no \"$pattern\" in: $text"
}

expect 0 '^\* sweep ' torus:4x4 all_reduce 16M
expect 0 '^\* exchange ' full:4 allreduce 64
expect 0 '^\* ring ' torus:4x4 all_reduce 16M --algo ring
expect 0 'exchange +more than 16 ranks' mesh:5x5 all_reduce 1M
expect 0 'proved in place: .* longest chain 8,' torus:4x4 all_reduce 1K --algo grid --verify
expect 0 '^rank 3$' mesh:2x2 broadcast 1K --root 1 --rank 3
expect 0 '"algorithm": "grid", "applies": true, "predicted_us": [0-9.]+, "bound_us": [0-9.]+, "steps": 8, "channels": 16' \
  torus:4x4 all_reduce 16M --json
expect 0 '"program": "meshccl-schedule 1' torus:4x4 all_gather 1M --json --rank 2
expect 0 '"proved_in_place": \{"steps": ' line:3 reduce 1M --json --verify
# Two ranks take longer messages; one rounding of narrow sums leaves what folds everything in one step.
expect 0 '^\* direct .* 2 +1 +4 +1 ' full:2@20GB/s,500ns,o=135ns,memory all_reduce 2M
MESHCCL_ACCUMULATE=once expect 0 '^  ring +it rounds at several ranks' full:4 all_reduce 1M
MESHCCL_ACCUMULATE=once expect 0 '^\* bidir_ring ' ring:4 all_gather 1M
expect 0 'usage:' --help
expect 2 'usage:' torus:4x4 all_reduce
expect 2 'unknown option --josn' torus:4x4 all_reduce 1M --josn
expect 2 '--rank needs a rank' torus:4x4 all_reduce 1M --rank
expect 1 'known: .*grid' torus:4x4 all_reduce 1M --algo gird
expect 1 'the ranks are 0 .. 15' torus:4x4 all_reduce 1M --rank 16
expect 1 'root 16' torus:4x4 broadcast 1M --root 16
expect 1 'all_redcue' torus:4x4 all_redcue 1M
expect 1 'cannot be reached' line:3@cut=0-1 all_reduce 1M
expect 1 '4096 at most' mesh:100x100 all_reduce 1M --verify

expect 0 '^\* ring +[0-9.]+ +[0-9.]+ +[0-9.]+ +644\.146 ' torus:4x4 all_reduce 16M --algo ring --simulate --message 1M
expect 0 '^  ring .* +- +- ' torus:4x4 all_reduce 16M --simulate
expect 0 'nothing ready, [0-9.]+ no credit' mesh:3x3 all_gather 1M --simulate --credits 2 --latency 1us --overhead 20ns
expect 0 '"algorithm": "exchange", "applies": true, "simulated_us": [0-9.]+, ' mesh:2x2 all_reduce 1M --simulate=all --json
expect 2 'usage:' mesh:2x2 all_reduce 1M --simulate=best
expect 2 'is a rate, not a time' mesh:2x2 all_reduce 1M --simulate --latency 50GB/s
expect 2 'from 1 to 64' mesh:2x2 all_reduce 1M --simulate --credits 65
expect 2 '--message' mesh:2x2 all_reduce 1M --simulate --message
expect 1 'hold no element' mesh:2x2 all_reduce 1M --simulate --message 1
expect 1 '4096 at most' mesh:100x100 all_reduce 1M --simulate

# Candidates are sorted, and exactly one is chosen.
text=$("$tool" plan mesh:8x8 all_reduce 4M --json)
times=$(grep -Eo '"predicted_us": [0-9.]+' <<<"$text" | grep -Eo '[0-9.]+$')
[ "$times" = "$(sort -g <<<"$times")" ] || fail "candidates are not sorted: $times"
[ "$(grep -c '"chosen": true' <<<"$text")" = 1 ] || fail "not one candidate is chosen: $text"

# A rank of 1,062,000 in 100 MB of address space; sanitizers need more than that for themselves.
if ! grep -q __asan_init "$tool" && ! grep -q __tsan_init "$tool"; then
  lines=$(ulimit -v 102400 && "$tool" plan mesh:1000x1062 all_reduce 1G --rank 531000 --algo grid | wc -l)
  [ "$lines" -gt 20 ] && [ "$lines" -lt 200 ] || fail "rank 531000 of mesh:1000x1062, grid: $lines lines"
  # Combs list the messages of this rank's own links.
  lines=$(ulimit -v 102400 && "$tool" plan mesh:1000x1062 all_reduce 1G --rank 531000 --algo comb | wc -l)
  [ "$lines" -gt 4000 ] && [ "$lines" -lt 100000 ] || fail "rank 531000 of mesh:1000x1062, comb: $lines lines"
fi
exit $failed
