#!/bin/sh
# test_hosts_lab.sh HOSTS PROBE [inside SHAPE FOLDER]: the network namespaces of tests/support/hosts.sh are hosts: they
# reach each other and nobody else, can be cut, unplugged and reset, and are gone when their runner is, however it ends.
set -u
hosts=$1 probe=$2

fail() {
  echo "FAILED: $*"
  exit 1
}

# expect STATUS WHAT COMMAND...
expect() {
  want=$1 what=$2
  shift 2
  "$@"
  got=$?
  [ "$got" = "$want" ] || fail "$what: status $got, not $want"
}

wait_for() { # FILE
  n=0
  while [ ! -e "$1" ]; do
    n=$((n + 1))
    [ $n -lt 3000 ] || fail "$1 does not come"
    sleep 0.01
  done
}

serve() { # I
  "$HOSTS" on "$1" "$probe" serve "$folder/port$1" &
  wait_for "$folder/port$1"
}

ask() { # FROM ADDRESS OF
  "$HOSTS" on "$1" "$probe" ask "$2" "$(cat "$folder/port$3")" 500
}

inside_switch() {
  serve 1
  serve 2
  serve 3
  for address in 10.77.0.2 fd77::2; do
    expect 0 "host 1 to host 2 at $address" ask 1 $address 2
    expect 0 "host 3 to host 2 at $address" ask 3 $address 2
  done
  expect 0 "a host to itself" ask 1 127.0.0.1 1
  expect 4 "a port where nobody listens" "$HOSTS" on 1 "$probe" ask 10.77.0.2 1 500
  expect 5 "an address outside" "$HOSTS" on 1 "$probe" ask 192.0.2.1 80 500

  # a connection lives through a cut, and through nothing else
  for how in cut unplug reset; do
    "$HOSTS" on 1 "$probe" hold 10.77.0.2 "$(cat "$folder/port2")" 500 "$folder/held" &
    asker=$!
    wait_for "$folder/held"
    "$HOSTS" $how 2 || fail "$how"
    rm "$folder/held"
    wait $asker
    got=$?
    case $how in
      reset) [ $got = 4 ] || fail "after a reset: status $got" ;;
      *) [ $got = 3 ] || fail "after $how: status $got, which is not silence" ;;
    esac
    [ $how = reset ] || expect 0 "the others after $how" ask 1 10.77.0.3 3
    [ $how = reset ] || [ "$(ask 1 10.77.0.2 2; echo $?)" != 0 ] || fail "host 2 is still there after $how"
    case $how in
      cut) "$HOSTS" heal 2 ;;
      unplug) "$HOSTS" plug 2 ;;
    esac
    n=0
    until ask 1 10.77.0.2 2; do
      n=$((n + 1))
      [ $n -lt 20 ] || fail "host 2 does not come back after $how"
    done
  done
  expect 2 "an unknown host" "$HOSTS" cut 4 2>/dev/null
}

inside_dead() {
  serve 2
  expect 0 "by the live interface" ask 1 10.77.0.2 2
  expect 0 "by the live interface, IPv6" ask 1 fd77::2 2
  expect 3 "by the interface that swallows" ask 1 10.78.0.2 2
  "$HOSTS" on 1 ip -o link show dev gone0 | grep -q 'state DOWN' || fail "gone0 is not down"
}

inside_loopback() {
  serve 1
  expect 0 "to itself" ask 1 127.0.0.1 1
  expect 0 "to itself, IPv6" ask 1 ::1 1
  [ "$("$HOSTS" on 1 ip -o link | wc -l)" = 1 ] || fail "there is more than lo"
}

inside_bare() {
  "$HOSTS" wire 1 east 2 west 10mbit || fail "wire"
  for i in 1 2; do
    dev=$([ $i = 1 ] && echo east || echo west)
    "$HOSTS" on $i ip addr add 10.80.0.$i/24 dev "$dev"
    "$HOSTS" on $i tc qdisc show dev "$dev" | grep -q 'rate 10Mbit' || fail "the wire has no rate"
  done
  serve 2
  expect 0 "along the wire" ask 1 10.80.0.2 2
}

# Its process ends with the runner's.
inside_wait() {
  serve 1
  : >"$folder/waiting"
  sleep 1000
}

if [ "${3-}" = inside ]; then
  folder=$5
  inside_"$4"
  exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
left() { pgrep -f "$folder/[p]ort" >/dev/null; }

go() { # SHAPE OPTIONS...
  shape=$1
  shift
  rm -f "$folder"/*
  "$hosts" run "$@" -- sh "$0" "$hosts" "$probe" inside "$shape" "$folder"
  status=$?
  [ $status != 77 ] || exit 77
  [ $status = 0 ] || fail "$shape"
  ! left || fail "$shape left a process"
}

before=$(ip -o link | wc -l; ip netns list)
go switch --hosts 3
go switch --hosts 3 --rate 100mbit
go dead --dead
go loopback --hosts 1 --loopback
go bare --bare

# However the runner ends: its processes, namespaces and interfaces go too.
for signal in KILL TERM INT; do
  rm -f "$folder"/*
  # a background job of a shell ignores SIGINT
  env --default-signal=INT "$hosts" run -- sh "$0" "$hosts" "$probe" inside wait "$folder" &
  runner=$!
  wait_for "$folder/waiting"
  left || fail "no server runs"
  kill -$signal "$runner"
  wait "$runner" 2>/dev/null
  n=0
  while left; do
    n=$((n + 1))
    [ $n -lt 1000 ] || fail "SIG$signal of the runner left a process"
    sleep 0.01
  done
done
[ "$(ip -o link | wc -l; ip netns list)" = "$before" ] || fail "an interface or a namespace is left"
expect 3 "the program's status" "$hosts" run -- sh -c 'exit 3'
expect 2 "an unknown option" "$hosts" run --host 3 -- true 2>/dev/null
echo "hosts: switch, dead interfaces, loopback, bare; nothing left"
