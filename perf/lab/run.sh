#!/bin/sh
# The torus lab: see --help and docs/lab.md.
set -u

usage() {
  cat <<END
usage: perf/lab/run.sh [options] [SHAPE...]
A torus, mesh or ring of hosts on this machine: network namespaces joined by links of limited rate. One rank of meshccl
runs on each over the kernel's TCP, then Open MPI and MPICH where they are installed, and a table compares them.
  SHAPE              such as torus:4x4 or mesh:4x4@dead=1.1, without rate and delay; default: the four of docs/lab.md
  --rate MBIT        of every link in each direction, headers included (default 25)
  --sizes LIST       bytes of the whole vector, such as 64K,1M,8M (default 1M,8M)
  --collectives LIST default all_reduce,all_gather,reduce_scatter
  --algorithms LIST  algorithms of meshccl beside the one that it chooses (default ring; none)
  --peers WHICH      none, some (defaults and rings), all (all algorithms that suit long vectors); default some
  --seconds S        of iterations per cell, at least three (default 4)
  --stream S         of the bare stream that finds the rate (default 2)
  --limit S          a library that takes longer for all its cells is given up (default 600)
  --burst BYTES      token bucket of a port (default: what a link sends in 4 ms, at least 6000)
  --depth BYTES      queue of a port (default 4000000: nothing is lost)
  --mtu BYTES        (default 9000)
  --control NAME     TCP's congestion control (default: reno, else cubic, where they are allowed)
  --build DIR        build folder (default build)
  --raw FILE         keeps the lines that the table is made of
  --shell COMMAND    runs COMMAND between the hosts instead (\$spec, \$list, \$HOSTS)
  --clean            removes what a killed run left in the folder for temporary files, and ends; every run does so first
Needs root or user namespaces, iproute2 and util-linux; where they are not allowed it says so and ends with status 77.
No process and no interface is left behind, however it ends: they live in namespaces without names.
END
}

die() {
  echo "lab: $*" >&2
  exit 2
}

LAB_HERE=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$LAB_HERE/../.." && pwd)
LAB_RATE=25 LAB_SIZES=1M,8M LAB_COLLECTIVES=all_reduce,all_gather,reduce_scatter LAB_ALGORITHMS=ring LAB_PEERS=some
LAB_SECONDS=4 LAB_STREAM=2 clean= LAB_LIMIT=600 LAB_BURST= LAB_DEPTH=4000000 LAB_MTU=9000 LAB_CONTROL= LAB_SHELL= build=$root/build raw= shapes=

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --clean) clean=1; shift; continue ;;
    --*) [ $# -ge 2 ] || die "$1 wants a value; see --help" ;;
  esac
  case $1 in
    --rate) LAB_RATE=$2 ;;
    --sizes) LAB_SIZES=$2 ;;
    --collectives) LAB_COLLECTIVES=$2 ;;
    --algorithms) LAB_ALGORITHMS=$2 ;;
    --peers) LAB_PEERS=$2 ;;
    --seconds) LAB_SECONDS=$2 ;;
    --stream) LAB_STREAM=$2 ;;
    --limit) LAB_LIMIT=$2 ;;
    --burst) LAB_BURST=$2 ;;
    --depth) LAB_DEPTH=$2 ;;
    --mtu) LAB_MTU=$2 ;;
    --control) LAB_CONTROL=$2 ;;
    --build) build=$2 ;;
    --raw) raw=$2 ;;
    --shell) LAB_SHELL=$2 ;;
    -*) die "$1 is not an option; see --help" ;;
    *) shapes="$shapes $1"; shift; continue ;;
  esac
  shift 2
done
case $LAB_RATE in '' | *[!0-9]* | 0) die "--rate wants whole Mbit/s, not \"$LAB_RATE\"" ;; esac
case $LAB_PEERS in none | some | all) ;; *) die "--peers wants none, some or all, not \"$LAB_PEERS\"" ;; esac
[ "$LAB_ALGORITHMS" != none ] || LAB_ALGORITHMS=
[ -n "$shapes" ] || shapes="torus:4x4 mesh:3x4 mesh:4x4@dead=1.1 ring:8"
LAB_BURST=${LAB_BURST:-$((LAB_RATE * 500 > 6000 ? LAB_RATE * 500 : 6000))}
if [ -z "$LAB_CONTROL" ]; then
  for control in cubic reno; do
    case " $(cat /proc/sys/net/ipv4/tcp_allowed_congestion_control) " in *" $control "*) LAB_CONTROL=$control ;; esac
  done
fi
# sizes in plain bytes, for all programs alike
sizes=
for size in $(echo "$LAB_SIZES" | tr , ' '); do
  case $size in *K) n=${size%K} unit=1024 ;; *M) n=${size%M} unit=1048576 ;; *) n=$size unit=1 ;; esac
  case $n in '' | *[!0-9]*) die "--sizes wants bytes such as 64K or 8M, not \"$size\"" ;; esac
  sizes=$sizes,$((n * unit))
done
LAB_SIZES=${sizes#,}
command -v setpriv >/dev/null || { echo "SKIPPED: the lab: setpriv is not installed (util-linux)"; exit 77; }
LAB_BIN=$build/bin
[ -d "$LAB_BIN" ] && LAB_BIN=$(cd "$LAB_BIN" && pwd)
for program in meshccl lab_links lab_stream lab_bench; do
  [ -x "$LAB_BIN/$program" ] ||
    die "$program is not in $LAB_BIN: cmake --preset release && cmake --build build, or say --build DIR"
done
LAB_NAP=$(find "$build" -name lab_nap.so | head -n 1)
# what of the environment would change the measured runs
unset MESHCCL_TOPO MESHCCL_ALGO MESHCCL_SCHEDULE MESHCCL_RANK_MAP MESHCCL_HOST_ID MESHCCL_SOCKET_IFNAME MESHCCL_TRANSPORTS

# Our folders are named for the process that made them.
temporary=${TMPDIR:-/tmp}
for old in "$temporary"/meshccl-lab.*; do
  [ -O "$old" ] || continue
  process=${old#"$temporary"/meshccl-lab.}
  kill -0 "${process%%.*}" 2>/dev/null || rm -rf "$old"
done
[ -z "$clean" ] || exit 0
scratch=$(mktemp -d "$temporary/meshccl-lab.$$.XXXXXX") || exit 2
child=
finish() {
  [ -z "$child" ] || { kill -TERM "$child"; wait "$child"; } 2>/dev/null
  rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
LAB_OUT=$scratch/out LAB_MPI=$scratch
: >"$LAB_OUT"

# The bench for every MPI that is here, with the launcher that belongs to it.
build_mpi() { # NAME
  command -v "mpicc.$1" >/dev/null && command -v "mpirun.$1" >/dev/null || { echo "lab: no $1 here (mpicc.$1, mpirun.$1)" >&2; return; }
  "mpicc.$1" -O2 -o "$scratch/$1" "$LAB_HERE/bench.c" "$LAB_HERE/bench_mpi.c" >"$scratch/log" 2>&1 ||
    { echo "lab: mpicc.$1 does not compile the bench" >&2; cat "$scratch/log" >&2; return; }
  command -v "mpirun.$1" >"$scratch/$1.run"
}
if [ "$LAB_PEERS" != none ] && [ -z "$LAB_SHELL" ]; then
  build_mpi openmpi
  build_mpi mpich
fi

export LAB_HERE LAB_BIN LAB_NAP LAB_OUT LAB_MPI LAB_RATE LAB_SIZES LAB_COLLECTIVES LAB_ALGORITHMS LAB_PEERS LAB_SECONDS LAB_STREAM LAB_LIMIT \
  LAB_BURST LAB_DEPTH LAB_MTU LAB_CONTROL LAB_SHELL
for LAB_SPEC in $shapes; do
  export LAB_SPEC
  count=$("$LAB_BIN/lab_links" "$LAB_SPEC" | awk '$1 == "snake" { print NF - 1 }')
  [ "${count:-0}" -ge 2 ] || die "$LAB_SPEC is no shape for the lab"
  # In the background, so that a signal is taken at once; the death of this shell ends it as well.
  setpriv --pdeathsig KILL sh "$root/tests/support/hosts.sh" run --hosts "$count" --bare -- sh "$LAB_HERE/inside.sh" &
  child=$!
  wait "$child"
  status=$?
  child=
  [ $status = 0 ] || exit $status
done
[ -n "$LAB_SHELL" ] || awk -f "$LAB_HERE/table.awk" "$LAB_OUT"
[ -z "$raw" ] || cp "$LAB_OUT" "$raw"
