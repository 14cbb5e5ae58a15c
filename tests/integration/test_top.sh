#!/bin/sh
# meshccl top of running jobs: who waits for whom, a rank that is stopped, a wrong id; and the limit that names the rank
# that stays away, on every other one. Usage: test_top.sh PATH/meshccl PATH/stay_away
tool=$1
program=$2
work=$(mktemp -d) || exit 1
launcher=
trap '[ -n "$launcher" ] && kill "$launcher" 2>/dev/null; wait; rm -rf "$work"' EXIT
unset MESHCCL_ID MESHCCL_SECRET MESHCCL_SECRET_FILE
broken=0

fail() {
  echo "BROKEN: $*"
  for file in out err job; do sed "s/^/    $file: /" "$work/$file" | head -20; done
  broken=1
}
# await COMMAND...: polls until the command succeeds, for at most 30 s.
await() {
  tries=300
  while ! "$@"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { fail "in vain: $*"; return 1; }
    sleep 0.1
  done
}
top() { "$tool" top "$@" >"$work/out" 2>"$work/err"; }
ready() { [ "$(grep -c ready "$work/job")" -eq 4 ]; }
three_wait_for_2() {
  top "$launcher" --json && [ "$(grep -c '"state": "waits".*"waits_for": 2, "over": "' "$work/out")" -eq 3 ]
}

: >"$work/out" >"$work/err" >"$work/job"
"$tool" run -n 4 -- "$program" 2 >"$work/job" 2>&1 </dev/null &
launcher=$!
await ready
await three_wait_for_2
grep -q '"rank": 2, "answered": true, .*"state": "outside", "operation": 2' "$work/out" || fail "rank 2 is not outside"
grep -q '"peer": 2, "sent_bytes": [1-9]' "$work/out" || fail "no bytes per link"
grep -q '"findings": \["3 ranks wait, in the end for rank 2' "$work/out" || fail "the finding is missing"
if command -v python3 >/dev/null; then
  python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); sys.exit(len(d["ranks"]) != 4)' "$work/out" ||
    fail "no JSON of 4 ranks"
fi

top "$launcher" --once || fail "the table is refused"
grep -q '4 ranks, 4 answered' "$work/out" || fail "not all answered"
grep -q '^2 .*outside, after 2' "$work/out" || fail "the table lacks rank 2"

top && fail "no process was given"
pid=$(grep -m1 'stay_away' "$work/err" | tr -dc '0-9 ' | awk '{print $1}')
[ -n "$pid" ] || fail "the processes that can be asked are not listed"
"$tool" top "$launcher" --json >"$work/out"
stopped=$(sed -n 's/.*"rank": 2, .*"pid": \([0-9]*\),.*/\1/p' "$work/out")
seen=$(sed -n 's/.*"rank": 1, .*"pid": \([0-9]*\),.*/\1/p' "$work/out")
kill -STOP "$stopped"
top "$seen" --once || fail "a stopped rank keeps the others from being seen"
grep -q '4 ranks, 3 answered' "$work/out" && grep -q '^2 *no answer' "$work/out" || fail "the stopped rank is not shown"
grep -q 'in the end for rank 2, which gives no answer' "$work/out" || fail "the finding about silence is missing"
kill -CONT "$stopped"

other=$("$tool" run -n 1 --no-label -- sh -c 'echo "$MESHCCL_ID"')
MESHCCL_ID=$other top "$seen" --once && fail "another id is good enough"
grep -q "refuses.*MESHCCL_ID" "$work/err" || fail "the refusal names no remedy"
top 1 --once && fail "process 1 was observed"
kill "$launcher"
wait "$launcher"
launcher=

MESHCCL_OP_TIMEOUT=1 "$tool" run -n 4 -- "$program" 1 >"$work/job" 2>&1 </dev/null
[ $? -eq 3 ] || fail "the limit ended the job with another status"
grep -q 'error: .*rank 1 has not called operation 3 (all_reduce of 1024 float.*outside of meshccl calls' "$work/job" ||
  fail "the rank that stayed away is not named"
[ $broken = 0 ] && echo "top: as documented"
exit $broken
