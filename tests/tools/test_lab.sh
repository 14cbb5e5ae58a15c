#!/bin/sh
# test_lab.sh BIN LAB: perf/lab on a small torus gives a table with right results, tells what it cannot do, and leaves no
# process and no file behind, also when it is interrupted or killed.
lab=$2
. "$(dirname "$0")/lib.sh"
bin=$1
build=$(cd "$bin/.." && pwd)
mark=MESHCCL_LAB_TEST=$$
mkdir "$scratch/tmp"

fast="--build $build --peers none --stream 0.2 --seconds 0"

# shellcheck disable=SC2086
start_lab() { env "$mark" TMPDIR="$scratch/tmp" "$lab" $fast "$@"; }

# Processes with the mark in their environment, without zombies.
left() { grep -lzx "$mark" /proc/[0-9]*/environ 2>/dev/null | grep -v "/proc/$$/"; }

nothing_left() { # WHEN
  n=0
  while [ -n "$(left)" ]; do
    n=$((n + 1))
    [ $n -lt 2000 ] || { echo "FAILED: processes are left $1: $(left)"; failed=$((failed + 1)); return; }
    sleep 0.01
  done
  echo "ok: no process is left $1"
}

start_lab --rate 200 --sizes 64K torus:2x2 >"$scratch/out" 2>"$scratch/err"
status=$?
if [ $status = 77 ]; then
  cat "$scratch/out"
  exit 77
fi
[ $status = 0 ] || { echo "FAILED: status $status"; cat "$scratch/out" "$scratch/err"; exit 1; }
says "the shape and its payload rate" '^torus:2x2, 200 Mbit/s: payload [0-9.]+ MB/s'
for collective in all_reduce all_gather reduce_scatter; do
  says "a row" "^$collective +65536 +[a-z_]+ +[0-9.]+ (ms|us) +[0-9]+\.[0-9] .* [0-9]+\.[0-9][0-9] "
done
grep -q WRONG "$scratch/out" && { echo "FAILED: wrong results"; cat "$scratch/out"; failed=$((failed + 1)); }
nothing_left "after a run"
[ -z "$(ls "$scratch/tmp")" ] || { echo "FAILED: files are left: $(ls "$scratch/tmp")"; failed=$((failed + 1)); }

# interrupt SIGNAL STATUS: while ranks wait on slow links
interrupt() {
  # shellcheck disable=SC2086
  env "$mark" TMPDIR="$scratch/tmp" "$lab" $fast --rate 1 --shell "touch $scratch/there; sleep 1000" line:2 >/dev/null 2>"$scratch/err" &
  process=$!
  n=0
  while [ ! -e "$scratch/there" ]; do
    n=$((n + 1))
    [ $n -lt 6000 ] || { echo "FAILED: the lab does not start"; cat "$scratch/err"; exit 1; }
    sleep 0.01
  done
  rm "$scratch/there"
  kill "-$1" $process
  wait $process
  got=$?
  [ $got = "$2" ] || { echo "FAILED: status $got after $1, not $2"; failed=$((failed + 1)); }
  nothing_left "after $1"
}
interrupt TERM 143
[ -z "$(ls "$scratch/tmp")" ] || { echo "FAILED: files are left after TERM: $(ls "$scratch/tmp")"; failed=$((failed + 1)); }
interrupt KILL 137
good "what a killed run left goes" start_lab --clean
[ -z "$(ls "$scratch/tmp")" ] || { echo "FAILED: files are left after --clean: $(ls "$scratch/tmp")"; failed=$((failed + 1)); }

refused "a shape without links" 2 "full:4" start_lab full:4
refused "a rate that is none" 2 "rate" start_lab --rate fast ring:4
exit $((failed > 0))
