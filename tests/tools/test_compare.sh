#!/bin/sh
# test_compare.sh BIN_FOLDER: the table that perf/compare/run.sh prints, from lines that are known, and one short real run
# of ours and of the machine's limit.
bin=$1
. "$(dirname "$0")/lib.sh"

cat >"$scratch/lines" <<END
1,meshccl,,all_reduce,2,1024,10.000,9.000,5,0
2,meshccl,,all_reduce,2,1024,30.000,9.000,5,0
3,meshccl,,all_reduce,2,1024,20.000,9.000,5,0
what a launcher says
1,peer,ring,all_reduce,2,1024,90.000,9.000,5,0
1,peer,tree,all_reduce,2,1024,40.000,9.000,5,0
1,meshccl,,all_reduce,2,4096,40.000,9.000,5,0
1,peer,ring,all_reduce,2,4096,20.000,9.000,5,0
1,limit,fused,all_reduce,2,4096,1.000,1.000,5,0
END
good "a table" "$bin/compare_table" --csv "$scratch/csv" --svg "$scratch/svg" "$scratch/lines"
says "the median of our rounds against the better variant" "^ +1024 +20.00 +40.00 +- +2.00  peer"
says "the limit is no peer" "^ +4096 +40.00 +20.00 +1.00 +0.50  peer"
says "the mean is geometric" "geometric mean of the ratio over 2 sizes: 1.00"
says "slow points are named" "all_reduce, 2 ranks, 4096 bytes: 40.00 us, peer 20.00 \(\+100 %\)"
says "and counted" "2 points, 1 slower by more than 5 %, 1 of these by more than 20 %; 0 wrong"
good "the CSV" grep -qx "all_reduce,2,1024,20.000,40.000,,2.000" "$scratch/csv"
good "the plot has a line per library and one of ratios" test "$(grep -c '<polyline' "$scratch/svg")" = 7
echo "1,meshccl,,all_reduce,2,8192,1.000,1.000,5,3" >>"$scratch/lines"
refused "wrong elements fail" 1 "3 elements were wrong" "$bin/compare_table" "$scratch/lines"
refused "no lines" 2 "no measured lines" "$bin/compare_table" /dev/null

truncate -s 65536 "$scratch/meet"
good "a real run" "$bin/meshccl" run -n 3 -- "$bin/compare_meshccl" --meet "$scratch/meet" --name meshccl --max 4096 \
  --factor 32 --seconds 0.01
cp "$scratch/out" "$scratch/ours"
good "the limits" "$bin/compare_limits" --np 2 --max 4096 --factor 32 --seconds 0.01
cat "$scratch/ours" "$scratch/out" >"$scratch/lines"
good "their table" "$bin/compare_table" "$scratch/lines"
says "all operations were right" "0 wrong elements"
says "all-to-all too" "^all_to_all, 3 ranks"
echo "$failed failed"
exit $((failed > 0))
