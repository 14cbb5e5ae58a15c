#!/bin/sh
# meshccl verify: every schedule of the fuzz corpus that is meant to be right is proved, a broken one is not, and the exit
# status and the JSON say so. Arguments: the program, the folder of schedules.
tool=$1
folder=$2
fail() {
  echo "FAILED: $1" >&2
  exit 1
}
for file in "$folder"/*; do
  [ "$(basename "$file")" = everything ] && continue
  "$tool" verify "$file" >/dev/null || fail "$file is not proved"
  "$tool" verify --in-place --json "$file" | grep -q '"proved": true, .*"in_place": true, .*"bits": "[0-9a-f]\{32\}"}$' ||
    fail "$file in place: unexpected JSON"
done
ring=$folder/all_reduce-ring
sed 's/ finish//' "$ring" | "$tool" verify - 2>&1 | grep -q 'in the end, the output of .* was never finished' ||
  fail "an unfinished schedule is not explained"
sed 's/ finish//' "$ring" | "$tool" verify --json - >/dev/null && fail "an unfinished schedule returns 0"
sed 's/ finish//' "$ring" | "$tool" verify --json - | grep -q '"proved": false, .*"error": "rank 0: in the end' ||
  fail "an unfinished schedule: unexpected JSON"
sed 's/channel 0/chanel 0/' "$ring" | "$tool" verify - 2>&1 | grep -q -e '-:[0-9]*:[0-9]*: expected slots' ||
  fail "a mistake is not shown with its place"
"$tool" verify "$folder/none" 2>&1 | grep -q 'none could not be opened: No such file' || fail "a missing file is not named"
"$tool" verify >/dev/null 2>&1
[ $? -eq 2 ] || fail "wrong usage does not return 2"
"$tool" verify --help | grep -q '^usage: meshccl verify' || fail "no help"
exit 0
