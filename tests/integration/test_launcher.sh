#!/bin/sh
# meshccl run: what ranks are given, what becomes of their output, whose status is returned, and that nothing is left.
# Usage: test_launcher.sh PATH/meshccl. Prints each broken rule; status 1 when there is one.
tool=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
broken=0
rule=

fail() {
  echo "BROKEN: $rule: $*"
  sed 's/^/    out: /' "$work/out" | head -20
  sed 's/^/    err: /' "$work/err" | head -20
  broken=1
}

# run STATUS ARGUMENTS...: runs the launcher and checks its status.
run() {
  expected=$1
  shift
  "$tool" run "$@" >"$work/out" 2>"$work/err" </dev/null
  status=$?
  [ $status -eq "$expected" ] || fail "status $status instead of $expected"
}

out_has() { grep -qF -- "$1" "$work/out" || fail "output lacks: $1"; }
err_has() { grep -qF -- "$1" "$work/err" || fail "errors lack: $1"; }
out_lines() { [ "$(wc -l <"$work/out")" -eq "$1" ] || fail "not $1 lines of output"; }

# await SECONDS COMMAND...: polls until the command succeeds.
await() {
  tries=$(($1 * 20))
  shift
  while ! "$@"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || return 1
    sleep 0.05
  done
}
alive() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:.[ZX]' "/proc/$1/status" 2>/dev/null; }
all_gone() { for pid in $(cat "$work"/pid.*); do alive "$pid" && return 1; done; true; }
have_pids() { [ "$(cat "$work"/pid.* 2>/dev/null | wc -l)" -eq "$1" ]; }
new_pids() { rm -f "$work"/pid.*; }

rule="every rank knows its place"
run 0 -n 3 -- sh -c 'echo "$MESHCCL_RANK/$MESHCCL_SIZE $MESHCCL_LOCAL_RANK/$MESHCCL_LOCAL_SIZE ${#MESHCCL_ID}"'
for r in 0 1 2; do out_has "[$r] $r/3 $r/3 256"; done
out_lines 3

rule="standard error is labelled and stays standard error"
run 0 -n 2 -- sh -c 'echo oops >&2'
err_has "[0] oops"
err_has "[1] oops"
out_lines 0

rule="a last line without an end is printed whole"
run 0 -n 2 -- sh -c 'printf "one\ntwo"'
out_has "[0] two"
out_has "[1] two"
out_lines 4

rule="lines of several ranks do not mix"
run 0 -n 4 -- sh -c 'i=0; while [ $i -lt 400 ]; do printf "%s%s" $MESHCCL_RANK aaaaaaaaaaaaaaaaaaaa; echo "$MESHCCL_RANK-$i"; i=$((i+1)); done'
out_lines 1600
for r in 0 1 2 3; do
  seq -f "[$r] ${r}aaaaaaaaaaaaaaaaaaaa$r-%g" 0 399 >"$work/expected"
  grep "^\[$r\]" "$work/out" | cmp -s - "$work/expected" || fail "rank $r's lines changed"
done

rule="a very long line passes"
run 0 -n 1 -- sh -c 'head -c 300000 /dev/zero | tr "\0" x'
[ "$(tr -dc x <"$work/out" | wc -c)" -eq 300000 ] || fail "characters are missing"

rule="--no-label leaves output alone"
run 0 -n 2 --no-label -- sh -c 'echo plain'
[ "$(grep -cx plain "$work/out")" -eq 2 ] || fail "lines changed"

rule="the first failure ends all and gives the status"
start=$(date +%s)
run 7 -n 4 -- sh -c '[ $MESHCCL_RANK = 2 ] && { echo last words; exit 7; }; sleep 100'
err_has "rank 2 (process"
err_has "ended with status 7"
out_has "[2] last words"
[ $(($(date +%s) - start)) -lt 10 ] || fail "it took too long"

rule="a killed rank gives 128 + signal"
run 137 -n 3 -- sh -c '[ $MESHCCL_RANK = 1 ] && kill -9 $$; sleep 100'
err_has "rank 1 (process"
err_has "killed by signal 9"

rule="a rank that ignores TERM is killed after two seconds"
start=$(date +%s)
run 3 -n 2 -- sh -c 'trap "" TERM; [ $MESHCCL_RANK = 0 ] && { sleep 0.2; exit 3; }; while :; do sleep 1; done'
took=$(($(date +%s) - start))
[ $took -ge 1 ] && [ $took -lt 10 ] || fail "it took $took s"

rule="a program that is not there or cannot run"
run 127 -n 2 -- "$work/nothing"
err_has "cannot start $work/nothing: No such file"
: >"$work/plain"
run 126 -n 2 -- "$work/plain"
err_has "Permission denied"

rule="only rank 0 has input"
echo hello | "$tool" run -n 3 -- sh -c 'read line; echo "got <$line>"' >"$work/out" 2>"$work/err"
out_has "[0] got <hello>"
out_has "[1] got <>"
out_has "[2] got <>"

rule="--topo reaches the ranks and gives their number"
run 0 --topo torus:2x2 -- sh -c 'echo "$MESHCCL_TOPO $MESHCCL_SIZE"'
out_has "[3] torus:2x2 4"
run 2 -n 3 --topo torus:2x2 -- true
err_has "has 4 ranks"
run 2 --topo tortoise:2x2 -- true
err_has "--topo"

rule="wrong arguments are named"
run 2 -- true
err_has "how many ranks"
run 2 -n 2
err_has "no program"
for n in 0 -3 x 4097 ''; do
  run 2 -n "$n" -- true
  err_has "whole number from 1 to 4096"
done
run 2 -n
err_has "needs a value"
run 2 -n 2 --lable -- true
err_has "--lable"
run 0 --help
out_has "usage: meshccl run"
run 0 -n 2 -- sh -c 'echo "$@"' sh --topo -n 5
out_has "[1] --topo -n 5"

rule="ranks are bound, each to a core that this process may use, in turn, where there is one for each core or that is wanted"
processors() { # of a list such as 0-2,5: one per line
  echo "$1" | tr , '\n' | while IFS=- read -r first last; do seq "$first" "${last:-$first}"; done
}
own=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
show='sed -n "s/^Cpus_allowed_list:[[:space:]]*//p" /proc/self/status'
many=$((2 * $(processors "$own" | wc -l)))
for n in 1 $many; do
  [ $n -lt $many ] || free="--bind none"
  run 0 -n $n ${free-} --no-label -- sh -c "$show"
  [ $many -eq 2 ] || [ "$(sort -u "$work/out")" = "$own" ] || fail "$n ranks may use other processors than $own"
done
for bound in "" "--bind core"; do
  run 0 -n $many $bound --no-label -- sh -c "$show"
  [ "$(for core in $(sort -u "$work/out"); do processors "$core"; done | sort -n)" = "$(processors "$own")" ] ||
    fail "the cores of all ranks are not $own, each processor once"
  fewest=$(sort "$work/out" | uniq -c | awk '{ print $1 }' | sort -n | head -n 1)
  most=$(sort "$work/out" | uniq -c | awk '{ print $1 }' | sort -n | tail -n 1)
  [ $((most - fewest)) -le 1 ] || fail "a core has $fewest ranks, another $most"
done
last=$(processors "$own" | tail -n 1)
if command -v taskset >/dev/null; then
  taskset -c "$last" "$tool" run -n 3 --bind core --no-label -- sh -c "$show" >"$work/out" 2>"$work/err" </dev/null
  [ "$(sort -u "$work/out")" = "$last" ] || fail "ranks left processor $last, which was all there is"
fi
run 2 -n 2 --bind socket -- true
err_has "--bind socket: ranks are bound to a core or to none"

rule="signals are passed on"
# A shell starts its background processes with INT ignored.
for signal in TERM INT HUP; do
  new_pids
  env --default-signal=INT "$tool" run -n 3 -- sh -c "trap 'echo seen; exit 5' $signal; echo \$\$ >$work/pid.\$MESHCCL_RANK; while :; do sleep 0.05; done" >"$work/out" 2>"$work/err" &
  launcher=$!
  await 10 have_pids 3 || fail "ranks did not start"
  kill -$signal $launcher
  wait $launcher
  status=$?
  [ $status -eq 5 ] || fail "$signal: status $status"
  for r in 0 1 2; do out_has "[$r] seen"; done
done

rule="nothing outlives a launcher that is killed"
new_pids
"$tool" run -n 3 -- sh -c "echo \$\$ >$work/pid.\$MESHCCL_RANK; exec sleep 100" >"$work/out" 2>"$work/err" &
launcher=$!
await 10 have_pids 3 || fail "ranks did not start"
kill -KILL $launcher
wait $launcher 2>/dev/null
await 5 all_gone || fail "ranks are left"

rule="what ranks started does not outlive the run"
new_pids
run 0 -n 2 -- sh -c "setsid sleep 100 & echo \$! >$work/pid.\$MESHCCL_RANK; (sleep 100 & echo \$! >$work/pid.b\$MESHCCL_RANK)"
have_pids 4 || fail "processes did not start"
all_gone || fail "processes are left"

rule="a failed run leaves nothing either"
new_pids
run 9 -n 2 -- sh -c "sleep 100 & echo \$! >$work/pid.\$MESHCCL_RANK; [ \$MESHCCL_RANK = 0 ] && { sleep 0.2; exit 9; }; wait"
all_gone || fail "processes are left"

rule="commands are found or the nearest is named"
"$tool" rum >"$work/out" 2>"$work/err" && fail "an unknown command succeeded"
err_has 'did you mean "run"'
"$tool" version >"$work/out" 2>"$work/err" || fail "version failed"
out_has "meshccl "

[ $broken -eq 0 ] && echo "launcher: all rules hold"
exit $broken
