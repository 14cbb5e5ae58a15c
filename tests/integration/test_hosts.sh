#!/bin/sh
# test_hosts.sh HOSTS BIN [inside WHAT FOLDER LAYOUT...]: the library over hosts that are network namespaces. A layout is
# the number of ranks of each host; ranks of one host meet over shm, the others over tcp.
set -u
hosts=$1 bin=$2
limit=3 # MESHCCL_SILENCE_TIMEOUT
slack=10 # of a machine under load

fail() {
  echo "FAILED: $*"
  exit 1
}

wait_for() { # FILE
  n=0
  while [ ! -e "$1" ]; do
    n=$((n + 1))
    [ $n -lt 6000 ] || fail "$1 does not come"
    sleep 0.01
  done
}

# Starts PROGRAM on every rank of the layout; $started are their processes, $places "RANK:HOST ..."
start() { # PROGRAM...
  total=0 started= places= host=0
  for count in $layout; do total=$((total + count)); done
  rank=0
  for count in $layout; do
    host=$((host + 1))
    k=0
    while [ $k -lt "$count" ]; do
      MESHCCL_TESTS_JOB=$rank/$total/$folder "$HOSTS" on $host "$@" >"$folder/log.$rank" 2>&1 &
      started="$started $!"
      places="$places $rank:$host"
      rank=$((rank + 1)) k=$((k + 1))
    done
  done
}

finish() { # WHAT
  bad=0
  for process in $started; do wait "$process" || bad=$((bad + 1)); done
  [ $bad = 0 ] || { tail -n 5 "$folder"/log.*; fail "$1 on hosts with $layout ranks: $bad ranks"; }
}

inside_suite() {
  start "$bin/$program"
  finish "$program"
}

ranks_of() { # HOST
  for place in $places; do
    case $place in *:"$1") echo "${place%:*}" ;; esac
  done
}

host_of() { # RANK
  for place in $places; do
    case $place in "$1":*) echo "${place#*:}" ;; esac
  done
}

# Ranks that met did so over shm on one host and over tcp between two; both happened.
check_wires() {
  cat "$folder"/log.* | sed -n 's/.*: rank \([0-9]*\) reaches rank \([0-9]*\) over \([a-z]*\).*/\1 \2 \3/p' |
    sort -u >"$folder/wires"
  while read -r from to wire; do
    [ "$from" != "$to" ] || continue
    want=tcp
    [ "$(host_of "$from")" != "$(host_of "$to")" ] || want=shm
    [ "$wire" = $want ] || fail "rank $from reaches rank $to over $wire, not $want"
  done <"$folder/wires"
  grep -q shm "$folder/wires" && grep -q tcp "$folder/wires" || fail "hosts with $layout ranks did not use both wires"
}

# Every rank has an error that names a rank of the other side of the cut, by the silence and not by the limit of calls.
inside_cut() {
  MESHCCL_DEBUG=info
  export MESHCCL_DEBUG
  start "$bin/sum_until_error" "$folder" 60
  for place in $places; do wait_for "$folder/running.${place%:*}"; done
  "$HOSTS" $how 2
  for place in $places; do wait_for "$folder/end.${place%:*}"; done
  finish "$how"
  check_wires
  inner=$(ranks_of 2 | paste -sd '|')
  outer=$(for place in $places; do echo "${place%:*}"; done | grep -vxE "$inner" | paste -sd '|')
  for place in $places; do
    rank=${place%:*}
    read -r code seconds text <"$folder/end.$rank"
    [ "$code" = 6 ] || [ "$code" = 8 ] || fail "rank $rank after $how: code $code: $text"
    [ "${seconds%.*}" -lt $((limit + slack)) ] || fail "rank $rank after $how: $seconds s: $text"
    other=$inner
    [ "${place#*:}" != 2 ] || other=$outer
    # A reset ends single connections: inside the host the first to fall may be blamed.
    [ "$how$other" != "reset$outer" ] || continue
    echo "$text" | grep -qE "^(the connection of rank [0-9]+ to )?[^0-9]*rank ($other)([^0-9]|\$)" || fail "rank $rank after $how: $text"
  done
}

if [ "${3-}" = inside ]; then
  what=$4 folder=$5 layout=$6
  program=${7-} how=${7-}
  inside_"$what"
  exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

go() { # WHAT LAYOUT ARGUMENT OPTIONS...
  what=$1 layout=$2 argument=$3
  shift 3
  rm -f "$folder"/*
  # shellcheck disable=SC2086 # the layout is counted
  "$hosts" run --hosts "$(set -- $layout; echo $#)" "$@" -- \
    sh "$0" "$hosts" "$bin" inside "$what" "$folder" "$layout" "$argument"
  status=$?
  [ $status != 77 ] || exit 77
  [ $status = 0 ] || fail "$what $argument, $layout"
  echo "ok: $what $argument, $layout $*"
}

MESHCCL_SILENCE_TIMEOUT=$limit
export MESHCCL_SILENCE_TIMEOUT
for layout in "1 1" "2 1" "1 2 3" "2 4 1 2"; do
  go suite "$layout" test_collectives
done
go suite "2 1" test_collectives --dead
go suite "1 2" test_semantics
MESHCCL_SOCKET_FAMILY=ipv6 go suite "2 1" test_collectives
go suite "3" test_collectives --loopback
for how in cut unplug reset; do
  go cut "2 1" $how
  go cut "1 2 3" $how
done
go cut "2 3 1 2" cut
echo "hosts: collectives, mixed shm and tcp, cut, unplugged, reset"
