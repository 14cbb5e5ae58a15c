#!/bin/sh
# Ranks that Open MPI's mpirun starts meet through its PMIx server, or without it when there is no library.
# Usage: test_pmix.sh PATH/meet_twice. Skipped (status 77) without Open MPI or without libpmix.so.2.
. "$(dirname "$0")/../tools/lib.sh"
program=$1
mpirun --version 2>/dev/null | grep -q "Open MPI" || { echo "SKIPPED: no mpirun of Open MPI"; exit 77; }
[ "$(ldconfig -p 2>/dev/null | grep -c 'libpmix\.so\.2')" -gt 0 ] || { echo "SKIPPED: no libpmix.so.2"; exit 77; }

# sums N: each of N ranks has summed twice.
sums() {
  for communicator in 0 1; do
    for rank in $(seq 0 $(($1 - 1))); do says "rank $rank" "communicator $communicator: rank $rank of $1: $1\$"; done
  done
}
meetings() { # how many ranks met through PMIx, both times
  n=$(cat "$scratch/out" "$scratch/err" | grep -c 'PMIx: rank')
  [ "$n" = "$1" ] || { echo "FAILED: $n meetings through PMIx instead of $1"; failed=$((failed + 1)); }
}

export MESHCCL_DEBUG=info
# PMIx keeps some of its memory for the life of the process.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
good "through PMIx" env MESHCCL_PMIX=on OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
  OMPI_MCA_rmaps_base_oversubscribe=1 mpirun -n 3 "$program"
sums 3
meetings 6
good "one host: by the job's name" with_mpirun -n 3 "$program"
sums 3
meetings 0
# A job over two hosts: ranks see fewer local ranks than ranks, as far as variables go.
good "several hosts: auto means PMIx" with_mpirun -n 2 sh -c 'OMPI_COMM_WORLD_LOCAL_SIZE=1 OMPI_COMM_WORLD_LOCAL_RANK=0 exec "$0"' "$program"
sums 2
meetings 4
refused "no server" 1 "PMIx: the server does not answer" env MESHCCL_PMIX=on PMIX_NAMESPACE=nobody PMIX_RANK=0 "$program"
good "no server, not insisted on" env PMIX_NAMESPACE=nobody PMIX_RANK=0 "$program"
says "alone" "rank 0 of 1: 1"
exit "$((failed > 0))"
