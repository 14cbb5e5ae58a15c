#!/bin/sh
# test_perf_programs.sh BIN_FOLDER: every perf program at small sizes, its reports, its refusals, and all ways to start it.
bin=$1
. "$(dirname "$0")/lib.sh"
small="-b 8 -e 64K -f 8 -n 2 -w 1"

# shellcheck disable=SC2086
good "all_reduce_perf, all types and operators" "$bin/all_reduce_perf" --np 3 $small -d all -o all
says "nothing is wrong" "Out of bounds values *: 0 OK"
for program in "$bin"/*_perf; do
  name=$(basename "$program")
  case "$name" in all_reduce_perf | workload_perf | kernels_perf | footprint_perf) continue ;; esac
  # shellcheck disable=SC2086
  good "$name" "$program" --np 3 $small
  says "$name: nothing is wrong" "Out of bounds values *: 0 OK"
done
# shellcheck disable=SC2086
good "all_reduce_perf on a topology" "$bin/all_reduce_perf" --np 4 --topo torus:2x2 $small
says "the foot has the share of the bound" "^# Avg % of bound *: [0-9.]+ %, best [0-9.]+ %"
good "all_gather_perf on a topology, with the bound" "$bin/all_gather_perf" --np 4 --topo torus:2x2 --bound $small -d bfloat16
good "threads and ranks per thread" "$bin/all_reduce_perf" --np 2 -t 2 -g 2 -b 4K -e 4K -n 1
good "a stream, registered pages, a root each" "$bin/broadcast_perf" --np 2 -y 0 -R 1 -r all -b 8 -e 4K -f 8 -n 1
good "kernels_perf" "$bin/kernels_perf" -d all -o all -s 1,3 -n 2 -x 1 -b 4K,200K -k all -t 0.00001
says "kernels_perf has a row for each" "^scalar +f8e5m2 +avg +3 +2 +204800 "
good "workload_perf" "$bin/workload_perf" --np 3 -m resnet50 -s 0.01 -n 1 -k 0 -J "$scratch/workload.json"
json "workload_perf's JSON" "$scratch/workload.json" "isinstance(d, dict)"

good "reports" "$bin/all_reduce_perf" --np 3 -b 8 -e 512 -f 8 -n 1 -J "$scratch/report.json" --csv "$scratch/report.csv"
json "JSON report" "$scratch/report.json" "isinstance(d, dict) and len(d) > 2"
[ "$(wc -l <"$scratch/report.csv")" -ge 4 ] || { echo "FAILED: the CSV has too few lines"; failed=$((failed + 1)); }

refused "a flag about CUDA is refused by name" 2 "cudagraph" "$bin/all_reduce_perf" --np 2 -G 1
refused "an unknown type" 2 "datatype" "$bin/all_reduce_perf" --np 2 -d float3
refused "an unknown flag" 2 "nosuchflag" "$bin/all_reduce_perf" --nosuchflag

if [ -x "$bin/meshccl" ]; then
  good "meshccl run" "$bin/meshccl" run -n 3 -- "$bin/all_reduce_perf" -b 8 -e 4K -f 8 -n 1
  says "the head is printed once, by rank 0" "^\[0\] .*Out of bounds values *: 0 OK"
fi
if command -v mpirun >/dev/null; then
  good "mpirun" with_mpirun -n 3 "$bin/all_reduce_perf" -b 8 -e 4K -f 8 -n 1
  says "three ranks" "Rank +2 "
else
  echo "SKIPPED: no mpirun here"
fi
echo "$failed failed"
exit $((failed > 0))
