#!/bin/bash
# Where the time of an all-reduce over shared memory goes, on all ranks together: a line for each number of ranks and
# size, in percent of the samples, and with -v the symbols. Needs perf; the build folder's programs are measured.
#
#   perf/profile.sh [-v] [-r "2 4 8"] [-s "8 32K 1M 64M"] [-t SECONDS]
set -eu
ranks="2 4 8" sizes="8 32K 1M 64M" seconds=1 verbose=0
while getopts "vr:s:t:" option; do
  case $option in
  v) verbose=1 ;;
  r) ranks=$OPTARG ;;
  s) sizes=$OPTARG ;;
  t) seconds=$OPTARG ;;
  *) exit 2 ;;
  esac
done
bin=$(cd "$(dirname "$0")/../build/bin" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

job() { # CALLS [COMMAND THAT STARTS IT]
  calls=$1
  shift
  MESHCCL_TRANSPORTS=self,shm "$@" "$bin/meshccl" run -n "$np" -- "$bin/all_reduce_perf" -b "$size" -e "$size" \
    -n "$calls" -w 3 -c 0 >"$work/out" 2>&1 || { tail -n 3 "$work/out" >&2 && exit 1; }
  us=$(awk '$4 == "float" { print $7; exit }' "$work/out") # out of place
}

printf '%5s %6s %10s %6s %6s %6s %6s %6s\n' ranks bytes us copy fold poll other kernel
for np in $ranks; do
  for size in $sizes; do
    job 5 env
    job "$(awk -v us="$us" -v t="$seconds" 'BEGIN { n = int(t * 5e5 / us); print (n < 10 ? 10 : n > 500000 ? 500000 : n) }')" \
      perf record -q -e cpu-clock -F 2000 -o "$work/data" --
    perf report -i "$work/data" --comm all_reduce_perf --sort sym --stdio -q 2>/dev/null | grep % >"$work/symbols"
    awk -v np="$np" -v size="$size" -v us="$us" '
      { share = $1 + 0; all += share }
      /perf_pattern/ { all -= share; next }
      /\[k\]/ { kernel += share; next }
      /memmove|memcpy|stream|_copy/ { copy += share; next }
      /_Sum|fold/ { fold += share; next }
      /poll|progress|advance|clock_gettime|yield|wait/ { poll += share; next }
      { other += share }
      END { s = 100 / all
        printf "%5d %6s %10.1f %6.0f %6.0f %6.0f %6.0f %6.0f\n", np, size, us, s * copy, s * fold, s * poll, s * other, s * kernel }
    ' "$work/symbols"
    [ $verbose = 0 ] || head -n 8 "$work/symbols"
  done
done
