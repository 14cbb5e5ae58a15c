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

cat >"$scratch/more" <<END
1,meshccl,,all_gather,4,1024,30.000,9.000,5,0
1,meshccl-registered,,all_gather,4,1024,10.000,9.000,5,0
1,peer,,all_gather,4,1024,20.000,9.000,5,0
1,gloo,,all_gather,4,1024,300.000,9.000,5,0
1,peer,,all_gather,4,4096,time was up,,0,0
1,peer,,all_gather,4,16384,time was up,,0,0
END
cat >"$scratch/again" <<END
1,meshccl,,all_gather,4,1024,15.000,9.000,5,0
1,peer,,all_gather,4,1024,30.000,9.000,5,0
END
good "slow points" "$bin/compare_table" --slow "$scratch/slow" "$scratch/more"
says "ordinary memory is compared, registered memory has a ratio of its own" "^ +1024 .* 0.67  peer +2.00"
says "gloo has a mean of its own" "ratio to gloo up to 64 KiB over 1 sizes: 10.00"
says "what is missing has a reason" "peer, all_gather, 4 ranks, from 4096 bytes on: time was up"
good "they are listed for the programs" grep -qx "4 all_gather:1024" "$scratch/slow"
good "a repeat" "$bin/compare_table" --slow "$scratch/slow" --repeat "$scratch/again" "$scratch/more"
says "a repeat replaces all of the point" "^ +1024 +15.00 +- +30.00 +- +2.00  peer"
good "nothing is slow any more" test ! -s "$scratch/slow"
refused "no lines" 2 "no measured lines" "$bin/compare_table" /dev/null

truncate -s 65536 "$scratch/meet"
good "a real run" "$bin/meshccl" run -n 3 -- "$bin/compare_meshccl" --meet "$scratch/meet" --name meshccl --max 4096 \
  --factor 32 --seconds 0.01
cp "$scratch/out" "$scratch/ours"
truncate -s 0 "$scratch/meet" && truncate -s 65536 "$scratch/meet"
good "single points within a budget" "$bin/meshccl" run -n 2 -- "$bin/compare_meshccl" --meet "$scratch/meet" \
  --name meshccl --max 4096 --factor 32 --seconds 0.01 --budget 20 --points broadcast:8,all_gather:256
says "the one" "meshccl,,all_gather,2,256,"
says "and the other" "meshccl,,broadcast,2,8,"
test "$(wc -l <"$scratch/out")" = 2 || { echo "FAILED: more than these"; failed=$((failed + 1)); }
good "the limits" "$bin/compare_limits" --np 2 --max 4096 --factor 32 --seconds 0.01
cat "$scratch/ours" "$scratch/out" >"$scratch/lines"
good "their table" "$bin/compare_table" "$scratch/lines"
says "all operations were right" "0 wrong elements"
says "all-to-all too" "^all_to_all, 3 ranks"
echo "$failed failed"
exit $((failed > 0))
