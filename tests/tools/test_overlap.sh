#!/bin/sh
# test_overlap.sh BIN OVERLAP: perf/overlap.sh measures two programs in two ways and fills every column of its table; what
# it is told wrong is refused. Nothing is said about the figures.
bin=$1 overlap=$2
. "$(dirname "$0")/lib.sh"

refused "a rate that is none" 2 "whole Mbit/s" "$overlap" --rate fast
refused "an unknown option" 2 "not an option" "$overlap" --speed 3

"$overlap" --build "$(dirname "$bin")" --steps 1 >"$scratch/out" 2>"$scratch/err"
status=$?
[ $status != 77 ] || { cat "$scratch/out"; exit 77; }
[ $status = 0 ] || { echo "FAILED: status $status"; cat "$scratch/out" "$scratch/err"; exit 1; }
for program in workload_perf train_charlm; do
  for mode in "progress thread" "caller polls"; do
    says "$program" "^$program +$mode( +[0-9.]+){6}$"
  done
done
echo "$failed failed"
exit $((failed > 0))
