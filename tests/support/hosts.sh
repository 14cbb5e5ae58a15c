#!/bin/sh
# Hosts for tests: network namespaces on one switch, or wired as the caller likes.
#
#   hosts.sh run [OPTIONS] -- PROGRAM...   makes the hosts, runs PROGRAM beside them, ends with its status
#       --hosts K       hosts 1..K (2); host I has 10.77.0.I and fd77::I on eth0, the switch side .254 and ::fe
#       --rate R        tc's rate limit, such as 100mbit, both ways on every port
#       --dead          two more interfaces per host, listed before eth0: void0 (10.78.0.I, fd78::I) is up and swallows
#                       everything, gone0 (10.79.0.I) is down
#       --loopback      no network at all: every host has lo only
#       --bare          no switch: PROGRAM makes the wires
#
# In PROGRAM, $HOSTS is this script and $HOSTS_COUNT the number of hosts:
#   $HOSTS on I CMD...           runs CMD on host I, with HOST_INDEX, HOST_ADDRESS and HOST_ADDRESS6
#   $HOSTS cut I | heal I        the switch loses all that host I sends or should get, in silence; and back
#   $HOSTS unplug I | plug I     the host sees its carrier go; and come
#   $HOSTS reset I               every TCP connection of host I ends with a reset
#   $HOSTS wire A DEV B DEV [R]  joins two hosts by a pair of interfaces, at rate R
#
# Everything lives in one process namespace, with its own mounts: when PROGRAM ends, or this script is interrupted or
# killed, the kernel ends every process of it, and with the last one the namespaces and interfaces go. Nothing has a
# name outside, so runs do not meet and there is nothing to clean up. Exit status 77: not allowed here, and why.
set -u

skip() {
  echo "SKIPPED: hosts as network namespaces: $*"
  exit 77
}

die() {
  echo "hosts.sh: $*" >&2
  exit 2
}

# Commands of ip and tc, one per line; quiet when they work.
batch() { # PROGRAM HOST ("" for the switch)
  log=$("$1" ${2:+-n "host$2"} -batch - 2>&1) || die "$1 on ${2:-the switch}: $log"
}

limit() { # DEVICE RATE
  [ -z "$2" ] || echo "qdisc replace dev $1 root tbf rate $2 burst 256kb latency 100ms"
}

add_host() { # I
  ip netns add "host$1" || die "no namespace for host $1"
  # addresses are usable at once, not after a second of looking for duplicates
  ip netns exec "host$1" sh -c 'for f in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >"$f"; done' 2>/dev/null
  echo "link set lo up" | batch ip "$1"
}

add_dead() { # I
  batch ip "$1" <<END
link add void0 type veth peer name void1
link set void1 up
link set void0 up
addr add 10.78.0.$1/24 dev void0
addr add fd78::$1/64 dev void0 nodad
link add gone0 type veth peer name gone1
addr add 10.79.0.$1/24 dev gone0
END
}

add_port() { # I RATE
  batch ip "" <<END
link add port$1 type veth peer name eth0 netns host$1
link set port$1 master switch up
END
  batch ip "$1" <<END
link set eth0 up
addr add 10.77.0.$1/24 dev eth0
addr add fd77::$1/64 dev eth0 nodad
END
  limit "port$1" "$2" | batch tc ""
  limit eth0 "$2" | batch tc "$1"
}

# The first process of the new namespaces.
inside() { # COUNT SHAPE RATE DEAD PROGRAM...
  count=$1 shape=$2 rate=$3 dead=$4
  shift 4
  mount -t tmpfs hosts /run || die "no private /run"
  echo "link set lo up" | batch ip ""
  if [ "$shape" = switch ]; then
    batch ip "" <<END
link add switch type bridge forward_delay 0 mcast_snooping 0
link set switch up
addr add 10.77.0.254/24 dev switch
addr add fd77::fe/64 dev switch nodad
END
  fi
  i=1
  while [ "$i" -le "$count" ]; do
    add_host "$i"
    [ -z "$dead" ] || add_dead "$i"
    [ "$shape" != switch ] || add_port "$i" "$rate"
    i=$((i + 1))
  done
  HOSTS=$self HOSTS_COUNT=$count HOSTS_RATE=$rate
  export HOSTS HOSTS_COUNT HOSTS_RATE
  "$@"
}

# Replaces the shell, so that it runs in a subshell only. A user who is not root is root in a user namespace of their own, where that is allowed.
isolate() {
  if [ "$(id -u)" = 0 ]; then
    exec setpriv --pdeathsig KILL unshare --mount --net --pid --kill-child --mount-proc "$@"
  else
    exec unshare --user --map-root-user setpriv --pdeathsig KILL unshare --mount --net --pid --kill-child --mount-proc "$@"
  fi
}

run() {
  count=2 shape=switch rate= dead=
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
      --hosts) count=${2-}; shift ;;
      --rate) rate=${2-}; shift ;;
      --dead) dead=1 ;;
      --loopback | --bare) shape=none ;;
      *) die "$1 is not an option; see the head of $self" ;;
    esac
    [ $# -eq 0 ] || shift
  done
  [ $# -ge 2 ] || die "what to run is missing: hosts.sh run [OPTIONS] -- PROGRAM..."
  shift
  case $count in '' | *[!0-9]* | 0) die "--hosts wants a number, not \"$count\"" ;; esac
  [ "$count" -le 250 ] || die "at most 250 hosts"
  for tool in ip tc unshare setpriv; do
    command -v "$tool" >/dev/null || skip "$tool is not installed (iproute2, util-linux)"
  done
  why=$(isolate sh -c 'mount -t tmpfs t /run && ip netns add t && ip link add veth0 type veth peer name veth1 netns t &&
    { [ "$1" = none ] || ip link add switch type bridge; }' sh "$shape" 2>&1) ||
    skip "not allowed here ($(echo "$why" | tail -n 1)); run as root, or where user namespaces are allowed"
  # In the background, so that a signal is taken at once; the death of this shell ends it as well.
  isolate sh "$self" inside "$count" "$shape" "$rate" "$dead" "$@" <&0 &
  child=$!
  trap 'kill -KILL "$child"; wait "$child"; exit 130' INT
  trap 'kill -KILL "$child"; wait "$child"; exit 143' TERM HUP
  wait "$child"
}

known() { # I
  [ -n "${HOSTS_COUNT-}" ] || die "only in a program that hosts.sh run has started"
  case $1 in '' | *[!0-9]*) die "\"$1\" is not a host" ;; esac
  [ "$1" -ge 1 ] && [ "$1" -le "$HOSTS_COUNT" ] || die "there is no host $1 of $HOSTS_COUNT"
}

on() {
  known "${1-}"
  HOST_INDEX=$1 HOST_ADDRESS=10.77.0.$1 HOST_ADDRESS6=fd77::$1
  export HOST_INDEX HOST_ADDRESS HOST_ADDRESS6
  shift
  exec ip netns exec "host$HOST_INDEX" "$@"
}

wire() { # A DEV B DEV [RATE]
  [ $# -ge 4 ] || die "wire A DEV B DEV [RATE]"
  known "$1"
  known "$3"
  batch ip "" <<END
link add $2 netns host$1 type veth peer name $4 netns host$3
END
  echo "link set $2 up" | batch ip "$1"
  echo "link set $4 up" | batch ip "$3"
  limit "$2" "${5-}" | batch tc "$1"
  limit "$4" "${5-}" | batch tc "$3"
}

self=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
what=${1-}
[ $# -eq 0 ] || shift
case $what in
  run | inside | on | wire) "$what" "$@" ;;
  cut | heal | unplug | plug | reset)
    known "${1-}"
    case $what in
      cut) echo "link set port$1 nomaster" | batch ip "" ;;
      heal) echo "link set port$1 master switch" | batch ip "" ;;
      unplug) echo "link set port$1 down" | batch ip "" ;;
      plug) echo "link set port$1 up" | batch ip "" ;;
      reset) ip netns exec "host$1" ss -K -t state established >/dev/null || die "ss cannot end connections here" ;;
    esac
    ;;
  *) die "run, on, cut, heal, unplug, plug, reset or wire; see the head of $self" ;;
esac
