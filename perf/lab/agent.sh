#!/bin/sh
# agent.sh [SSH OPTIONS] HOST COMMAND...: what launchers of other libraries call in place of ssh. COMMAND runs in the
# namespace HOST, under that host name, so that every library takes the namespaces for different machines.
while :; do
  case $1 in
    -l | -o | -p) shift 2 ;;
    -*) shift ;;
    *) break ;;
  esac
done
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c 'hostname "$1" && shift && eval "$*"' sh "$host" "$@"
