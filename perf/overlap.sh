#!/bin/sh
# How much communication hides behind computation where the wire is the limit: see --help and docs/lab.md.
set -u

usage() {
  cat <<END
usage: perf/overlap.sh [options]
Two hosts on this machine, network namespaces joined by a link of limited rate, one rank on each. workload_perf (the
backward pass of ResNet-50, compute is time in which the caller sleeps) and the training example train_charlm (compute is
work) run with a progress thread and without, when the caller polls between layers. Every line compares a step with its
compute alone and its communication alone.
  --rate MBIT    of the link in each direction (default 250: what a faster one costs the processors is no longer little)
  --scale X      factor on the size of the model's tensors (default: communication alone takes about 50 ms)
  --steps N      of workload_perf, and 10 times as many of train_charlm (default 5)
  --build DIR    build folder (default build)
  --verbose      shows what the programs print
Needs root or user namespaces, iproute2 and util-linux; where they are not allowed it says so and ends with status 77.
Nothing is left behind, however it ends: processes and interfaces live in namespaces without names.
END
}

die() {
  echo "overlap: $*" >&2
  exit 2
}

# A line of the table: PROGRAM MODE STEP COMPUTE COMMUNICATION HIDDEN CALLER WAITING (ms, hidden in percent)
row() { printf '%-14s %-16s %9s %9s %9s %8s %9s %9s\n' "$@"; }

number() { # EXPRESSION: what \1 of it is in the log
  sed -n "s/^.*$1.*/\1/p" "$log" | head -n 1
}

ranks() { # PROGRAM...
  timeout 100 "$bin/meshccl" run --no-label -H host1,host2 --ssh "ip netns exec {host}" -- "$@" >"$log" 2>&1 </dev/null ||
    { echo "overlap: $1 ended with status $?"; cat "$log"; exit 2; } >&2
  [ -z "$verbose" ] || cat "$log" >&2
}

workload() { # MODE OPTIONS...
  mode=$1
  shift
  ranks "$bin/workload_perf" -m resnet50 -s "$scale" -b 512K -k $((16000000 / rate)) -n "$steps" "$@"
  row workload_perf "$mode" "$(number '# step  *: \([0-9.]*\) ms')" "$(number 'compute alone  *: \([0-9.]*\)')" \
    "$(number 'communication alone  *: \([0-9.]*\)')" "$(number '(\([0-9.]*\) % hidden)')" \
    "$(number 'caller in meshccl  *: \([0-9.]*\)')" "$(number 'and \([0-9.]*\) ms waiting')"
  grep -q 'values : 0 OK' "$log" || die "workload_perf found wrong values"
}

training() { # MODE OPTIONS...
  mode=$1
  shift
  ranks "$bin/train_charlm" --steps $((10 * steps)) --batch 320 "$@" "$root/README.md" "$root"/docs/*.md
  row train_charlm "$mode" "$(number ': \([0-9.]*\) ms per step; passes')" "$(number 'passes alone \([0-9.]*\)')" \
    "$(number 'communication alone \([0-9.]*\)')" "$(number 'hidden: \([0-9]*\) %')" \
    "$(number 'caller in meshccl: \([0-9.]*\)')" "$(number 'passes, \([0-9.]*\) ms waiting')"
}

inside() {
  log=/run/overlap # private to this run: hosts.sh mounts a /run of its own
  for i in 1 2; do # BBR measures the path by bursts, which a token bucket lets through
    "$HOSTS" on $i sh -c 'for c in reno cubic; do echo $c >/proc/sys/net/ipv4/tcp_congestion_control; done' 2>/dev/null
  done
  echo "2 ranks, $rate Mbit/s each way; ms per step, hidden in percent of the communication"
  row program mode step compute wire hidden caller waiting
  workload "progress thread"
  workload "caller polls" --poll
  training "progress thread" --thread
  training "caller polls"
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
if [ "${1-}" = inside ]; then
  rate=$2 scale=$3 steps=$4 bin=$5 verbose=$6
  inside
  exit
fi
rate=250 scale= steps=5 build=$root/build verbose=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --verbose) verbose=1; shift; continue ;;
    --*) [ $# -ge 2 ] || die "$1 wants a value; see --help" ;;
  esac
  case $1 in
    --rate) rate=$2 ;;
    --scale) scale=$2 ;;
    --steps) steps=$2 ;;
    --build) build=$2 ;;
    *) die "$1 is not an option; see --help" ;;
  esac
  shift 2
done
case $rate in '' | *[!0-9]* | 0) die "--rate wants whole Mbit/s, not \"$rate\"" ;; esac
case $steps in '' | *[!0-9]* | 0) die "--steps wants a number, not \"$steps\"" ;; esac
[ -n "$scale" ] || scale=$(awk -v rate="$rate" 'BEGIN { print rate * 50 / 8 * 1000 / 4 / 25557032 }')
bin=$build/bin
[ -d "$bin" ] && bin=$(cd "$bin" && pwd)
for program in meshccl workload_perf train_charlm; do
  [ -x "$bin/$program" ] || die "$program is not in $bin: cmake --preset release && cmake --build build, or say --build DIR"
done
command -v setpriv >/dev/null || { echo "SKIPPED: overlap: setpriv is not installed (util-linux)"; exit 77; }
# what of the environment would change the measured runs
unset MESHCCL_TOPO MESHCCL_ALGO MESHCCL_SCHEDULE MESHCCL_RANK_MAP MESHCCL_HOST_ID MESHCCL_SOCKET_IFNAME MESHCCL_TRANSPORTS \
  MESHCCL_PROGRESS_THREAD
# In the background, so that a signal is taken at once; the death of this shell ends it as well.
setpriv --pdeathsig KILL sh "$root/tests/support/hosts.sh" run --hosts 2 --rate "${rate}mbit" -- \
  sh "$0" inside "$rate" "$scale" "$steps" "$bin" "$verbose" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null; wait "$child"; exit 130' INT
trap 'kill -TERM "$child" 2>/dev/null; wait "$child"; exit 143' TERM HUP
wait "$child"
