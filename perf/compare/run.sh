#!/bin/bash
# Measures meshccl and the peers that users would otherwise take, in turn within the same minutes, and prints a table.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
. .ci/setup.sh

ranks="2 4 8" min=8 max=268435456 factor=4 seconds=0.2 rounds=3
ops=all_reduce,all_reduce_in_place,all_gather,reduce_scatter,broadcast
out=build/compare over=shm install=1 budget=60 fresh=
libraries=

usage() {
  cat <<EOF
usage: perf/compare/run.sh [options]
  --np "2 4 8"        numbers of ranks, processes on this host
  --min B --max B --factor N    sizes in bytes ($min to $max by $factor)
  --ops LIST          of all_reduce all_reduce_in_place all_gather reduce_scatter broadcast all_to_all, with commas
  --over shm|tcp      what the libraries may use between the ranks: shared memory, or TCP over loopback
  --only LIST         libraries, with commas, instead of all: meshccl meshccl-registered ompi-vader ompi-ucx ompi-tcp
                      mpich gloo limit
  --rounds N          rounds of all libraries in turn ($rounds); a figure is the median over the rounds
  --seconds T         time per size and round ($seconds)
  --budget T          time per library, number of ranks and round, in equal shares for the operations: what a library
                      does not reach in it, the largest sizes, is left out and listed ($budget)
  --out FOLDER        where lines.csv, repeat.csv, table.txt, table.csv and plot.svg go ($out)
  --fresh             every rank writes its input before each call, outside the time: its lines are the rank's own then,
                      as after a backward pass; without it inputs never change, and processors may keep copies of them
  --no-install        measure with the peers that are there

meshccl, with ordinary memory and defaults, is what is compared; meshccl-registered has a ratio of its own. Points where a
peer is more than 5 % faster are measured once more by all libraries at the end, and only that counts for them.
EOF
}

while [ $# -gt 0 ]; do
  case $1 in
  --np) ranks=$2 ;;
  --min) min=$2 ;;
  --max) max=$2 ;;
  --factor) factor=$2 ;;
  --ops) ops=$2 ;;
  --over) over=$2 ;;
  --only) libraries=${2//,/ } ;;
  --rounds) rounds=$2 ;;
  --seconds) seconds=$2 ;;
  --budget) budget=$2 ;;
  --out) out=$2 ;;
  --fresh) fresh=--fresh && shift && continue ;;
  --no-install) install=0 && shift && continue ;;
  -h | --help) usage && exit 0 ;;
  *) usage >&2 && exit 2 ;;
  esac
  [ $# -ge 2 ] || { usage >&2 && exit 2; }
  shift 2
done
case $over in
shm) every="limit meshccl meshccl-registered ompi-vader ompi-ucx mpich gloo" ;;
tcp) every="limit meshccl ompi-tcp gloo" ;;
*) setup_fail "--over $over: shm or tcp" ;;
esac
libraries=${libraries:-$every}

limit=$((4 * budget + 20)) # of one that does not come back

# ---- programs ----
if [ "$install" = 1 ]; then
  setup_needs="$setup_needs g++ libopenmpi-dev openmpi-bin libmpich-dev mpich libgloo-dev"
fi
setup_packages
setup_build release compare
here=perf/compare
mkdir -p "$out"
out=$(cd "$out" && pwd)
programs=$(mktemp -d)
cleanup() {
  rm -rf "$programs"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

have() { # LIBRARY: compiles its program; 1: what it needs is missing
  case $1 in
  ompi*) command -v mpicc.openmpi >/dev/null && mpicc.openmpi -O2 -o "$programs/ompi" $here/with_mpi.c $here/bench.c ;;
  mpich) command -v mpicc.mpich >/dev/null && mpicc.mpich -O2 -o "$programs/mpich" $here/with_mpi.c $here/bench.c ;;
  gloo)
    command -v g++ >/dev/null && [ -f /usr/include/gloo/algorithm.h ] && cc -O2 -c -o "$programs/bench.o" $here/bench.c &&
      g++ -O2 -o "$programs/gloo" $here/with_gloo.cc "$programs/bench.o" -lgloo -pthread
    ;;
  esac
}

present=
for library in $libraries; do
  if have "$library"; then
    present="$present $library"
  else
    echo "$library: not installed, left out"
  fi
done

# ---- one library, one number of ranks ----
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# Starts NP copies of a command that have COMPARE_RANK and COMPARE_SIZE set, and waits for all.
start_copies() {
  np=$1
  shift
  pids=
  for ((rank = 0; rank < np; rank++)); do
    COMPARE_RANK=$rank COMPARE_SIZE=$np "$@" &
    pids="$pids $!"
  done
  status=0
  for pid in $pids; do wait "$pid" || status=$?; done
  return $status
}

# More ranks than processors: nobody is bound, and who waits lets others run; else each rank has its own.
ompi() { # NP MCA-PARAMETERS... -- PROGRAM
  np=$1 bind=none yield=1
  shift
  [ "$np" -gt "$(nproc)" ] || bind=core yield=0
  timeout $limit mpirun.openmpi --oversubscribe -np "$np" --bind-to $bind --mca mpi_yield_when_idle $yield "$@"
}

settings() { # what is printed about each
  case $1 in
  limit) [ $over = tcp ] && echo "a bare socket, 2 ranks only" || echo "threads that copy and add, no library" ;;
  meshccl) echo "ordinary pages, defaults" ;;
  meshccl-registered) echo "meshcclMemAlloc, defaults" ;;
  ompi-vader) echo "pml ob1, btl vader,self; bound to cores, or yielding when ranks exceed processors" ;;
  ompi-ucx) echo "pml ucx, any transport; otherwise as ompi-vader" ;;
  ompi-tcp) echo "pml ob1, btl tcp,self over lo; otherwise as ompi-vader" ;;
  mpich) echo "defaults" ;;
  gloo) echo "TCP over 127.0.0.1, the best of its algorithms" ;;
  esac
}

one() { # LIBRARY NP ROUND [--points LIST]
  library=$1 np=$2 round=$3
  shift 3
  meet=$programs/meet
  rm -rf "$meet" "$programs/store"
  truncate -s 65536 "$meet"
  mkdir "$programs/store"
  sizes="--min $min --max $max --factor $factor --seconds $seconds --round $round"
  args="--meet $meet --name $library --ops $ops $sizes --budget $budget $fresh $*"
  case $library in
  limit) build/bin/compare_limits --np "$np" --over $over $sizes ;;
  meshccl*)
    transports=$([ $over = tcp ] && echo self,tcp || echo self,shm)
    COMPARE_MEMORY=${library#meshccl-} MESHCCL_TRANSPORTS=$transports \
      timeout $limit build/bin/meshccl run -n "$np" -- build/bin/compare_meshccl $args
    ;;
  ompi-vader) ompi "$np" --mca pml ob1 --mca btl vader,self "$programs/ompi" $args ;;
  ompi-ucx)
    ompi "$np" --mca pml ucx --mca pml_ucx_tls any --mca pml_ucx_devices any --mca osc ^ucx "$programs/ompi" $args
    ;;
  ompi-tcp) ompi "$np" --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include lo "$programs/ompi" $args ;;
  mpich) timeout $limit mpirun.mpich -np "$np" "$programs/mpich" $args ;;
  gloo) COMPARE_STORE=$programs/store start_copies "$np" timeout $limit "$programs/gloo" $args ;;
  *) setup_fail "--only $library: no such library" ;;
  esac
}

# ---- all of them, in turn ----
# What a library said goes to FILE; if it ended badly, so does that.
measure() { # FILE LIBRARY NP ROUND [--points LIST]
  file=$1
  shift
  echo "round $3 of $rounds${4:+ of the slow points}, $2 ranks, $1"
  one "$@" >>"$file" 2>"$programs/errors" </dev/null && return
  ended=$?
  echo "$3,$library,,all,$np,0,ended with status $ended,,0,0" >>"$file"
  echo "$library on $np ranks ended with status $ended:" >&2
  tail -n 5 "$programs/errors" >&2
}

lines=$out/lines.csv repeat=$out/repeat.csv
: >"$lines"
: >"$repeat"
for ((round = 1; round <= rounds; round++)); do
  for np in $ranks; do
    for library in $present; do measure "$lines" "$library" "$np" "$round"; done
  done
done
build/bin/compare_table --slow "$programs/slow" "$lines" >/dev/null || true
for ((round = 1; round <= rounds; round++)); do
  while read -r np points; do
    for library in $present; do
      [ "$library" = limit ] || measure "$repeat" "$library" "$np" "$round" --points "$points"
    done
  done <"$programs/slow"
done

status=0
{
  echo "$(nproc) processors, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), load $(cut -d' ' -f1 /proc/loadavg)${fresh:+, inputs written before each call}"
  for library in $present; do printf '  %-20s %s\n' "$library" "$(settings "$library")"; done
  build/bin/compare_table --csv "$out/table.csv" --svg "$out/plot.svg" --repeat "$repeat" "$lines"
} | tee "$out/table.txt" || status=$?
[ "${PIPESTATUS[0]}" = 0 ] || status=1
echo "written: $out/{lines.csv,repeat.csv,table.txt,table.csv,plot.svg}"
exit $status
