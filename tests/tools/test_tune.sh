#!/bin/sh
# `meshccl tune`: what it measures over shm, tcp and a limited network is plausible and reads back the same; mistakes cost
# nothing. Usage: test_tune.sh FOLDER_OF_PROGRAMS HOSTS_SCRIPT
bin=$1 hosts=$2
. "$(dirname "$0")/lib.sh"
meshccl=$bin/meshccl

# ranks N ARGUMENTS..: tune on N ranks of this host
ranks() {
  n=$1
  shift
  "$meshccl" run -n "$n" "$meshccl" tune --rounds 3 "$@"
}

# within NAME LOW HIGH: the rates of the file, in bytes per second; delays below a second
within() {
  sed -n 's/.*rate: \([0-9.]*\)\([kMGT]*\)B\/s, delay: \([0-9.]*\)\([mun]*\)s.*/\1 \2 \3 \4/p' "$scratch/links.yaml" |
    awk -v low="$2" -v high="$3" '
      { n++; f["k"] = 1e3; f["M"] = 1e6; f["G"] = 1e9; f["T"] = 1e12; f[""] = 1; g["m"] = 1e-3; g["u"] = 1e-6; g["n"] = 1e-9
        if ($1 * f[$2] < low || $1 * f[$2] > high || $3 <= 0 || NF < 4 || $3 * g[$4] > 0.5) bad = 1 }
      END { exit bad || n == 0 }' && { echo "ok: figures of $1"; return; }
  echo "FAILED: figures of $1:"
  cat "$scratch/links.yaml"
  failed=$((failed + 1))
}

# The file says what it says: printed again it is the same, and the planner takes it.
reads_back() { # NAME SHAPE
  good "$1: read back" "$meshccl" topo "$scratch/links.yaml" --yaml
  grep -v '^#' "$scratch/links.yaml" | cmp - "$scratch/out" || failed=$((failed + 1))
  good "$1: plan" "$meshccl" plan "$scratch/links.yaml" all_reduce 1M
  says "$1" "on $2@"
}

good "four ranks" ranks 4 -o "$scratch/links.yaml"
within "shared memory" 1e6 1e12
reads_back "shared memory" full:4
good "used" env MESHCCL_TOPO="$scratch/links.yaml" "$meshccl" run -n 4 "$meshccl" tune --rounds 1
says "used" 'sides: 4'

good "two classes over tcp" env MESHCCL_TRANSPORTS=tcp,self MESHCCL_TOPO=full:4@level=host:2+2 \
  "$meshccl" run -n 4 "$meshccl" tune --rounds 2 -o "$scratch/links.yaml"
within "two classes" 1e5 1e12
reads_back "two classes" full:4
grep -q 'inside level host:.*2 pairs in 2 turns' "$scratch/links.yaml" || { echo "FAILED: inside"; failed=$((failed + 1)); }
grep -q 'between groups of level host:.*2 pairs in 1 turn$' "$scratch/links.yaml" || { echo "FAILED: between"; failed=$((failed + 1)); }

good "a torus with a class that nobody has" env MESHCCL_TOPO=torus:2x2@level=die:2x2 \
  "$meshccl" run -n 4 "$meshccl" tune --rounds 1 -o "$scratch/links.yaml"
grep -q 'between groups of level die: no two ranks' "$scratch/links.yaml" || { echo "FAILED: no class"; failed=$((failed + 1)); }
reads_back "a torus" torus:2x2

# Mistakes are found before anything is measured, and what was there stays.
refused "no such folder" 1 "cannot be written" ranks 2 -o "$scratch/none/links.yaml"
refused "a name that is no file" 2 "links.yaml" "$meshccl" tune -o links
refused "a single rank" 1 "start several" "$meshccl" tune -o "$scratch/alone.yaml"
refused "rounds" 2 "from 1 to 1000" "$meshccl" tune --rounds 0
cp "$scratch/links.yaml" "$scratch/kept.yaml"
refused "a wrong topology" 1 "3 nodes" env MESHCCL_TOPO=ring:3 "$meshccl" run -n 2 "$meshccl" tune -o "$scratch/links.yaml"
cmp "$scratch/links.yaml" "$scratch/kept.yaml" || failed=$((failed + 1))
[ "$(ls "$scratch" | grep -c yaml)" = 2 ] || { echo "FAILED: left behind:"; ls "$scratch"; failed=$((failed + 1)); }

# Two hosts of one rank on a network of 100 Mbit/s, which is 12.5 MB/s and, in bursts, a little more.
sh "$hosts" run --hosts 2 --rate 100mbit -- sh -c '
  run() { "$HOSTS" on $(($1 + 1)) env RANK=$1 WORLD_SIZE=2 MESHCCL_AUTH=none MASTER_ADDR=10.77.0.1 MASTER_PORT=7000 \
    "$0" tune --rounds 3 -o "$1.yaml"; }
  cd "$1" && { run 1 & run 0 && wait $!; }' "$meshccl" "$scratch" >"$scratch/out" 2>"$scratch/err"
status=$?
if [ $status = 77 ]; then
  cat "$scratch/out"
elif [ $status != 0 ]; then
  echo "FAILED: on hosts: status $status"
  cat "$scratch/out" "$scratch/err"
  failed=$((failed + 1))
else
  mv "$scratch/0.yaml" "$scratch/links.yaml"
  within "hosts" 4e6 16e6
  reads_back "hosts" full:2
fi
exit $((failed > 0))
