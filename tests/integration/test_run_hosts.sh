#!/bin/sh
# meshccl run over several hosts: placement, what ranks are given, input and output, failures, errors with their remedy,
# and that nothing is left. The hosts are this machine under several names: the command instead of ssh is a script.
# Usage: test_run_hosts.sh PATH/meshccl [PATH/hello [PATH/all_reduce_perf]]. Status 1 when a rule is broken.
tool=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
broken=0
rule=

cat >"$work/ssh" <<'END'
#!/bin/sh
# Instead of ssh: HOST COMMAND... runs the command here, as the shell of that host would.
host=$1
shift
case $host in
nowhere) echo "ssh: Could not resolve hostname nowhere" >&2; exit 255 ;;
old) echo; echo "meshccl-run-agent 1 0.0.1"; cat >/dev/null; exit 0 ;;
mute) exec sleep 100 ;;
liar) echo; echo "meshccl-run-agent 2 $MESHCCL_TESTS_VERSION"; printf '\377\377\377\377\100\100'; exec sleep 100 ;;
bare) unset HOME; PATH=/nothing exec /bin/sh ;;
noisy) echo "Welcome to this host"; echo "its last login was today" >&2 ;;
esac
MESHCCL_HOST_ID=$host exec "$@"
END
chmod +x "$work/ssh"
# A command that stays between the launcher and the agent.
cat >"$work/wrap" <<'END'
#!/bin/sh
echo $$ >"$(dirname "$0")/wrap.$2"
"$(dirname "$0")/ssh" "$2" sh
END
chmod +x "$work/wrap"

fail() {
  echo "BROKEN: $rule: $*"
  sed 's/^/    out: /' "$work/out" | head -20
  sed 's/^/    err: /' "$work/err" | head -20
  broken=1
}
run() { # STATUS ARGUMENTS...
  expected=$1
  shift
  "$tool" run --ssh "$work/ssh" "$@" >"$work/out" 2>"$work/err" </dev/null
  status=$?
  [ $status -eq "$expected" ] || fail "status $status instead of $expected"
}
here() { # the same without hosts
  expected=$1
  shift
  "$tool" run "$@" >"$work/out" 2>"$work/err" </dev/null
  status=$?
  [ $status -eq "$expected" ] || fail "status $status instead of $expected"
}
out_has() { grep -qF -- "$1" "$work/out" || fail "output lacks: $1"; }
err_has() { grep -qF -- "$1" "$work/err" || fail "errors lack: $1"; }
out_lines() { [ "$(wc -l <"$work/out")" -eq "$1" ] || fail "not $1 lines of output"; }
await() { # SECONDS COMMAND...
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

place='echo "$MESHCCL_HOST_ID $MESHCCL_RANK/$MESHCCL_SIZE $MESHCCL_LOCAL_RANK/$MESHCCL_LOCAL_SIZE ${#MESHCCL_ID}"'

rule="ranks fill the hosts in order"
run 0 -H a:2,b:1,c:3 -n 5 -- sh -c "$place"
out_has "[0] a 0/5 0/2 256"
out_has "[1] a 1/5 1/2 256"
out_has "[2] b 2/5 0/1 256"
out_has "[3] c 3/5 0/2 256"
out_has "[4] c 4/5 1/2 256"
out_lines 5

rule="without -n every slot is a rank; a host named twice has both numbers"
run 0 -H a,b:2,a -- sh -c "$place"
out_has "[1] a 1/4 1/2"
out_has "[3] b 3/4 1/2"

rule="all have one id"
run 0 -H a:2,b:2 --no-label -- sh -c 'echo $MESHCCL_ID'
[ "$(sort -u "$work/out" | wc -l)" -eq 1 ] || fail "several ids"

rule="host files of both styles"
cat >"$work/hosts" <<'END'
# hosts of the test
a slots=2   # two
b:1

c	slots=1 max_slots=4
END
run 0 --hostfile "$work/hosts" -- sh -c "$place"
out_has "[1] a 1/4 1/2"
out_has "[2] b 2/4 0/1"
out_has "[3] c 3/4 0/1"

rule="mistakes in host files are named with file and line"
for line in 'b slots=x' 'b slots=0' 'b:zwei' 'b cores=3' 'b:2 slots=3' ':3' '-x:3' '[::1' 'b:5000'; do
  printf 'a:1\n%s\n' "$line" >"$work/hosts"
  run 2 --hostfile "$work/hosts" -- true
  err_has "$work/hosts:2: "
done
run 2 --hostfile "$work/nothing" -- true
err_has "No such file"
printf '# nobody\n' >"$work/hosts"
run 2 --hostfile "$work/hosts" -- true
err_has "names no host"
run 2 -H a:x -- true
err_has '-H: "x" is no number of slots'
run 2 -H a:1,,b -- true
err_has 'is not the name of a host'

rule="fewer slots than ranks"
run 2 -H a:2,b:1 -n 4 -- true
err_has "4 ranks, but the hosts have 3 slots"

rule="hosts that are this machine need no ssh"
run 0 -H localhost:2 -- sh -c 'echo "$MESHCCL_RANK/$MESHCCL_SIZE"'
out_has "[1] 1/2"
run 0 -H "localhost:1,b:1,$(uname -n):1" -- sh -c 'echo "<$MESHCCL_HOST_ID> $MESHCCL_RANK/$MESHCCL_SIZE"'
out_has "[0] <> 0/3"
out_has "[1] <b> 1/3"
out_has "[2] <> 2/3"

rule="output keeps its stream, and what shells print before is no output"
run 0 -H noisy:1,b:1 -- sh -c 'echo out; echo err >&2'
out_has "[0] out"
out_has "[1] out"
out_lines 2
err_has "[0] err"
err_has "[noisy] its last login was today"

rule="lines of several hosts do not mix"
run 0 -H a:2,b:2 -- sh -c 'i=0; while [ $i -lt 300 ]; do printf "%s%s" $MESHCCL_RANK aaaaaaaaaaaaaaaaaaaa; echo "$MESHCCL_RANK-$i"; i=$((i+1)); done'
for r in 0 1 2 3; do
  seq -f "[$r] ${r}aaaaaaaaaaaaaaaaaaaa$r-%g" 0 299 >"$work/expected"
  grep "^\[$r\]" "$work/out" | cmp -s - "$work/expected" || fail "rank $r's lines changed"
done

rule="variables and folder travel"
(cd "$work" && MESHCCL_SLICE=64K OTHER=1 GIVEN=two "$tool" run --ssh "$work/ssh" -H a:1,b:1 -x GIVEN -x NEW="a b" -- \
  sh -c 'echo "$MESHCCL_SLICE $GIVEN $NEW $(pwd)"' >"$work/out" 2>"$work/err" </dev/null) || fail "failed"
out_has "[1] 64K two a b $work"
run 0 -H a:1 --wdir / -- pwd
out_has "[0] /"
run 1 -H a:1,b:1 --wdir "$work/nothing" -- true
err_has "working folder $work/nothing: No such file"
run 2 -x NOT_THERE -H a -- true
err_has "that variable is not set"
run 0 --topo ring:3 -H a:2,b:1 -- sh -c 'echo $MESHCCL_TOPO'
out_has "[2] ring:3"

rule="rank 0 reads the launcher's input, all of it, the others none"
head -c 1000000 /dev/urandom >"$work/input"
"$tool" run --ssh "$work/ssh" --no-label -H a:1,b:1 -- sh -c 'cksum' <"$work/input" >"$work/out" 2>"$work/err"
cksum <"$work/input" >"$work/expected"
cksum </dev/null >>"$work/expected"
sort "$work/expected" >"$work/expected2"
sort "$work/out" | cmp -s - "$work/expected2" || fail "other input"
head -c 1000000 "$work/input" | "$tool" run --ssh "$work/ssh" -H a:1,b:1 -- sh -c 'exec <&-; echo closed' >"$work/out" 2>"$work/err" ||
  fail "a rank that reads nothing"
out_has "[1] closed"

rule="the command may name the host anywhere"
"$tool" run --ssh "env NAMED={host} $work/ssh {host}" -H a:1 -- sh -c 'echo "<$NAMED>"' >"$work/out" 2>"$work/err" </dev/null || fail "failed"
out_has "[0] <a>"
MESHCCL_RUN_SSH=$work/ssh "$tool" run -H a:1 -- sh -c 'echo "<$MESHCCL_HOST_ID>"' >"$work/out" 2>"$work/err" </dev/null || fail "failed"
out_has "[0] <a>"

rule="the first failure ends all hosts and gives the status"
run 7 -H a:2,b:2 -- sh -c '[ $MESHCCL_RANK = 3 ] && { echo last words; exit 7; }; sleep 100'
err_has "rank 3 (process"
err_has "ended with status 7 on host b; ending the others"
out_has "[3] last words"
run 137 -H a:1,b:1 -- sh -c '[ $MESHCCL_RANK = 0 ] && kill -9 $$; sleep 100'
err_has "was killed by signal 9 (Killed) on host a"
run 127 -H a:1,b:1 -- "$work/nothing"
err_has "cannot start $work/nothing: No such file"

rule="a host that cannot be reached"
run 1 -H a:1,nowhere:1 -- sh -c 'echo started'
err_has "host nowhere cannot be reached: \"$work/ssh nowhere sh\" ended with status 255"
err_has "Could not resolve hostname nowhere"
out_lines 0
"$tool" run --ssh "$work/not-there" -H a:1 -- true >"$work/out" 2>"$work/err" </dev/null
err_has "cannot start $work/not-there: No such file"

rule="meshccl is not there"
run 1 -H a:1,b:1 --prefix "$work" -- true
err_has "meshccl was not found there"
err_has "there is no program $work/bin/meshccl"
err_has "--prefix DIR"
run 1 -H a:1 --remote-command "$work/mesh" -- true
err_has "meshccl was not found there"
mkdir -p "$work/p/bin" && ln -s "$tool" "$work/p/bin/meshccl"
run 0 -H a:1 --prefix "$work/p" -- true
run 0 -H a:1 --remote-command "env VIA=command $tool" -- sh -c 'echo "<$VIA>"'
out_has "[0] <command>"

rule="another version"
run 1 -H a:1,old:1 -- true
err_has "host old has meshccl 0.0.1 (protocol 1)"

rule="an agent that talks nonsense"
MESHCCL_TESTS_VERSION=$("$tool" version | sed 's/.* //') run 1 -H a:1,liar:1 -- sh -c 'echo started'
err_has "host liar: what the agent says is not understood"
out_lines 0

rule="a host that never answers"
MESHCCL_INIT_TIMEOUT=0.5 run 1 -H a:1,mute:1 -- sh -c 'echo started'
err_has "host mute:"
err_has "gave no answer for 0.5 s (MESHCCL_INIT_TIMEOUT)"
out_lines 0

rule="run-agent is not for people"
"$tool" run-agent x >"$work/out" 2>"$work/err" </dev/null && fail "it ran"
err_has "what meshccl run starts"

rule="signals are passed on"
for signal in TERM INT; do
  new_pids
  env --default-signal=INT "$tool" run --ssh "$work/ssh" -H a:1,b:2 -- sh -c "trap 'echo seen; exit 5' $signal; echo \$\$ >$work/pid.\$MESHCCL_RANK; while :; do sleep 0.05; done" >"$work/out" 2>"$work/err" </dev/null &
  launcher=$!
  await 20 have_pids 3 || fail "ranks did not start"
  kill -$signal $launcher
  wait $launcher
  status=$?
  [ $status -eq 5 ] || fail "$signal: status $status"
  for r in 0 1 2; do out_has "[$r] seen"; done
done

rule="nothing outlives a launcher that is killed, what ranks started included"
new_pids
"$tool" run --ssh "$work/wrap x" -H a:1,b:2 -- sh -c "echo \$\$ >$work/pid.\$MESHCCL_RANK; setsid sleep 100 & echo \$! >$work/pid.s\$MESHCCL_RANK; exec sleep 100" >"$work/out" 2>"$work/err" </dev/null &
launcher=$!
await 20 have_pids 6 || fail "ranks did not start"
kill -KILL $launcher
wait $launcher 2>/dev/null
await 20 all_gone || fail "processes are left"

# agents: PIDS of the processes that serve the ranks of $work/pid.*
agent_of() { awk '/^PPid:/ {print $2}' "/proc/$(cat "$work/pid.$1")/status"; }
for victim in agent command; do
  rule="the $victim of a host is killed: named, all ended, nothing left"
  new_pids
  "$tool" run --ssh "$work/wrap x" -H a:1,b:2 -- sh -c "echo \$\$ >$work/pid.\$MESHCCL_RANK; exec sleep 100" >"$work/out" 2>"$work/err" </dev/null &
  launcher=$!
  await 20 have_pids 3 || fail "ranks did not start"
  if [ $victim = agent ]; then kill -KILL "$(agent_of 1)"; else kill -KILL "$(cat "$work/wrap.b")"; fi
  wait $launcher
  status=$?
  [ $status -eq 1 ] || fail "status $status"
  err_has "host b: the agent of ranks 1 to 2 is gone"
  await 20 all_gone || fail "processes are left"
done

hello=${2-} perf=${3-}
dumped() { "$tool" topo "$work/dump.yaml" | head -1; }
if [ -n "$hello" ]; then
  rule="a program over hosts, which become a level of its topology"
  while read -r hosts n sum topology; do
    MESHCCL_TOPO_DUMP=$work/dump.yaml run 0 -H "$hosts" -- "$hello"
    [ "$(grep -c " of $n: $sum $n\$" "$work/out")" -eq "$n" ] || fail "$hosts: other sums"
    [ "$(dumped)" = "$topology" ] || fail "$hosts: topology $(dumped)"
  done <<END
a:1,b:1 2 1 full:2@1.25GB/s,20us
a:2,b:1,c:3 6 15 full:6@20GB/s,500ns,o=135ns,level=host:2+1+3:1.25GB/s:20us,memory
a:2,b:2,c:2,d:1 7 21 full:7@20GB/s,500ns,o=135ns,level=host:2*3+1:1.25GB/s:20us,memory
END

  rule="hosts whose ranks are interleaved"
  MESHCCL_TOPO_DUMP=$work/dump.yaml run 0 -H x:5 -- sh -c 'MESHCCL_HOST_ID=h$((MESHCCL_RANK % 2)) exec "$0"' "$hello"
  [ "$(grep -c ' of 5: 10 5$' "$work/out")" -eq 5 ] || fail "other sums"
  [ "$(dumped)" = "full:5@20GB/s,500ns,o=135ns,level=host:3+2:1.25GB/s:20us,memory,map=0.3.1.4.2" ] || fail "$(dumped)"

  rule="a described topology wins, and what was dumped can be given back; files need not be on the hosts"
  mv "$work/dump.yaml" "$work/given.yaml"
  MESHCCL_TOPO=ring:5 MESHCCL_TOPO_DUMP=$work/dump.yaml run 0 -H a:3,b:2 -- "$hello"
  [ "$(dumped)" = "ring:5@50GB/s,500ns" ] || fail "$(dumped)"
  MESHCCL_TOPO=$work/given.yaml MESHCCL_TOPO_DUMP=$work/dump.yaml run 0 -H a:3,b:2 -- "$hello"
  cmp -s "$work/given.yaml" "$work/dump.yaml" || fail "$(cat "$work/dump.yaml")"
  run 0 --topo "$work/given.yaml" -H a:3,b:2 -- sh -c 'echo "$MESHCCL_TOPO"'
  out_has "[4] full:5@20GB/s"

  rule="one host is as without discovery"
  MESHCCL_TOPO_DUMP=$work/dump.yaml here 0 -n 3 -- "$hello"
  [ "$(dumped)" = "full:3@20GB/s,500ns,o=135ns,memory" ] || fail "$(dumped)"
fi

if [ -n "$perf" ]; then
  rule="sums of many sizes over uneven hosts are right"
  for hosts in a:2,b:1 a:1,b:3,c:1 a:2,b:1,c:2,d:1; do
    run 0 --no-label -H $hosts -- "$perf" -b 4 -e 1M -f 8 -n 1 -w 0
    out_has "Out of bounds values : 0 OK"
  done
fi

[ $broken -eq 0 ] && echo "hosts: all rules hold"
exit $broken
