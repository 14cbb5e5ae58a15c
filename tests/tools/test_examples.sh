#!/bin/sh
# test_examples.sh BIN_FOLDER SOURCE_FOLDER: the examples do what they say; training gives the same losses on 1, 2 and 4
# ranks.
bin=$1 source=$2
. "$(dirname "$0")/lib.sh"

ranks() {
  n=$1
  shift
  "$bin/meshccl" run -n "$n" --no-label -- "$@"
}

good "hello alone" "$bin/hello"
says "hello alone" "^rank 0 of 1: 0 1$"
good "port_from_nccl" "$bin/port_from_nccl" 3
says "port_from_nccl" "^3 ranks, 0 wrong$"
good "explain_plan" "$bin/explain_plan" torus:4x4 all_reduce 1048576
says "a plan is chosen" "\*"
[ -x "$bin/meshccl" ] || { echo "no launcher was built"; exit $((failed > 0)); }

good "hello on 4 ranks" ranks 4 "$bin/hello"
says "rank 2" "^rank 2 of 4: 6 4$"
good "own_topology on 6 ranks" ranks 6 "$bin/own_topology" mesh:2x3
says "rank 4" "^rank 4 at 1\.1 has 3 neighbours; its row sums to 12, its column to 5$"
if command -v mpirun >/dev/null; then
  good "hello under mpirun" with_mpirun -n 2 "$bin/hello"
  says "rank 1" "^rank 1 of 2: 1 2$"
else
  echo "SKIPPED: no mpirun here"
fi

for n in 1 2 4; do
  good "train_charlm on $n ranks" ranks "$n" "$bin/train_charlm" --steps 20 --batch 16 "$source/LICENSE" "$source"/docs/*.md
  says "$n ranks train" "^$n ranks, [0-9]+ parameters"
  sed -n 's/^step *\([0-9]*\) *loss \([0-9.]*\)$/\1 \2/p' "$scratch/out" >"$scratch/loss.$n"
done
for n in 2 4; do
  paste -d ' ' "$scratch/loss.1" "$scratch/loss.$n" | awk -v n="$n" '
    { d = $2 - $4; if (d < 0) d = -d; if (d > worst) worst = d; if ($1 != $3 || d > 1e-3) bad = 1 }
    END { printf "losses of 1 and %d ranks in %d lines differ by at most %g\n", n, NR, worst; exit bad || NR < 5 }' ||
    { echo "FAILED: losses differ"; paste "$scratch/loss.1" "$scratch/loss.$n"; failed=$((failed + 1)); }
done
awk 'NR == 1 { first = $2 } { last = $2 } END { exit !(last < first - 0.1) }' "$scratch/loss.1" ||
  { echo "FAILED: nothing is learned"; cat "$scratch/loss.1"; failed=$((failed + 1)); }
echo "$failed failed"
exit $((failed > 0))
