#!/bin/sh
# One shape of perf/lab/run.sh, run by tests/support/hosts.sh beside hosts without wires (--bare): wires them, measures a
# bare TCP stream, runs meshccl and the peers, and writes lines that table.awk reads to LAB_OUT:
#   shape SPEC RATE_MBIT              link ONE_WAY BOTH_WAYS ROUND_TRIP_US (bytes per second)
#   plan COLL BYTES BOUND_US ALGORITHM PREDICTED_US SIMULATED_US
#   cell LIBRARY ALGORITHM COLL BYTES MEDIAN_US MINIMUM_US ITERATIONS WRONG LOAD
#
# Host I is rank I-1. Its port to host J is called toJ. Every link is a subnet of its own, 10.77.x.y/30, so that
# meshccl's ranks find the address that stands on the shared link by themselves; everything else is routed, hop by hop,
# the way that the planner thinks of (lab_links). For libraries that want one address per host there is 10.78.x.y on a
# private interface, host0. Set by run.sh: LAB_SPEC (without figures), LAB_RATE (Mbit/s), LAB_BURST, LAB_DEPTH (bytes),
# LAB_MTU, LAB_CONTROL, LAB_BIN, LAB_HERE, LAB_MPI (folder), LAB_COLLECTIVES, LAB_SIZES, LAB_SECONDS, LAB_LIMIT,
# LAB_ALGORITHMS, LAB_PEERS, LAB_NAP, LAB_STREAM, LAB_SHELL.
set -u
folder=/run/lab # private to this run: hosts.sh mounts a /run of its own

die() {
  echo "lab: $*" >&2
  exit 2
}

say() { echo "$*" >>"$LAB_OUT"; }

# ---- the wires ----

# Writes FOLDER/ip.0 (links), and per host ip.I and tc.I, from lab_links' lines.
plan_wires() {
  awk -v folder="$folder" -v rate="$LAB_RATE" -v burst="$LAB_BURST" -v depth="$LAB_DEPTH" -v mtu="$LAB_MTU" '
    function link_address(link, end) { return "10.77." int(link / 64) "." (link % 64) * 4 + 1 + end }
    function host_address(host) { return "10.78." int(host / 250) "." host % 250 + 1 }
    function ip(host, text) { print text > (folder "/ip." host) }
    $1 == "link" {
      for (end = 0; end < 2; end++) {
        mine = $(2 + end) + 1; other = $(3 - end) + 1
        at[mine, other] = link_address(links, end)
        peers[mine] = peers[mine] " " other
        ip(mine, "link set to" other " up")
        ip(mine, "addr add " at[mine, other] "/30 dev to" other)
        print "qdisc add dev to" other " root tbf rate " rate "mbit burst " burst " limit " depth > (folder "/tc." mine)
      }
      ip(0, "link add to" $3 + 1 " netns host" $2 + 1 " mtu " mtu " type veth peer name to" $2 + 1 " netns host" $3 + 1 " mtu " mtu)
      links++
    }
    $1 == "via" {
      from = $2 + 1; to = $3 + 1; next_host = $4 + 1
      if (!(from in seen)) {
        seen[from] = 1
        ip(from, "link add host0 mtu " mtu " type veth peer name host1 mtu " mtu)
        ip(from, "link set host0 up"); ip(from, "link set host1 up")
        ip(from, "addr add " host_address(from) "/32 dev host0")
        print host_address(from), "host" from > (folder "/hosts")
      }
      way = " via " at[next_host, from] " dev to" next_host
      ip(from, "route add " host_address(to) "/32" way " src " host_address(from))
      n = split(peers[to], list, " ")
      for (i = 1; i <= n; i++)
        if (list[i] != from) ip(from, "route add " at[to, list[i]] "/32" way)
    }
    $1 == "snake" { for (i = 2; i <= NF; i++) print "host" $i + 1 > (folder "/snake") }
  ' "$folder/links" || die "cannot plan the wires"
}

# The kernel's settings of one host: it forwards, by whatever port packets come, and forgets what it knew of a peer.
settings='
  cd /proc/sys/net/ipv4 && echo 1 >ip_forward && echo 1 >tcp_no_metrics_save
  for f in conf/*/rp_filter conf/*/send_redirects; do echo 0 >$f; done
  [ -z "$1" ] || { echo "$1" >tcp_congestion_control; } 2>/dev/null && exit
  echo "congestion control $1 is not allowed here; there are: $(cat tcp_allowed_congestion_control)" >&2
  exit 1'

wire() {
  ip -batch "$folder/ip.0" || die "no links"
  i=1
  while [ "$i" -le "$HOSTS_COUNT" ]; do
    "$HOSTS" on "$i" sh -c "$settings" sh "$LAB_CONTROL" || die "host $i cannot be set up"
    ip -n "host$i" -batch "$folder/ip.$i" || die "no addresses and routes on host $i"
    "$HOSTS" on "$i" sh -c "$settings" sh "$LAB_CONTROL" || die "host $i cannot be set up" # of its new ports
    tc -n "host$i" -batch "$folder/tc.$i" || die "no rate limits on host $i (tc tbf, kernel module sch_tbf)"
    i=$((i + 1))
  done
  { echo "127.0.0.1 localhost"; cat "$folder/hosts"; } >"$folder/hosts.all"
  mount --bind "$folder/hosts.all" /etc/hosts || die "no private /etc/hosts"
}

# Rate and round trip of the first link.
measure_link() {
  set -- $(grep -m 1 '^link ' "$folder/links")
  a=$(($2 + 1)) b=$(($3 + 1))
  address=$(awk -v dev="to$a" '$1 == "addr" && $5 == dev { sub("/.*", "", $3); print $3 }' "$folder/ip.$b")
  "$HOSTS" on "$b" "$LAB_BIN/lab_stream" serve "$folder/port" &
  server=$! n=0
  while [ ! -e "$folder/port" ]; do
    n=$((n + 1))
    [ $n -lt 1000 ] || die "the stream's server does not start"
    sleep 0.01
  done
  "$HOSTS" on "$a" "$LAB_BIN/lab_stream" ask "$address" "$(cat "$folder/port")" "${LAB_STREAM:-2}" >"$folder/stream" || die "no stream"
  wait "$server"
  set -- $(cat "$folder/stream")
  one_way=$2 both_ways=$4 round_trip=$6
  say "link $one_way $both_ways $round_trip"
}

# ---- contenders ----

# What a contender printed becomes cells; silence becomes a line on stderr.
record() { # LIBRARY ALGORITHM STATUS LOG
  load=$(cut -d' ' -f1 /proc/loadavg)
  awk -v who="$1 $2" -v load="$load" '/(^|\] )result / { sub(/.*result /, ""); print "cell", who, $0, load }' "$4" >>"$LAB_OUT"
  [ "$3" = 0 ] && return
  echo "lab: $1 ($2) on $LAB_SPEC ended with status $3$([ "$3" != 124 ] || echo ", out of time")" >&2
  grep -v result "$4" | tail -n 5 >&2
}

run_meshccl() { # ALGORITHM ("" for the planner's choice)
  force=
  for collective in $(echo "$LAB_COLLECTIVES" | tr , ' '); do force="$force;$collective:$1"; done
  if [ -n "$1" ]; then
    MESHCCL_ALGO=${force#;}
    export MESHCCL_ALGO
  else
    unset MESHCCL_ALGO
  fi
  timeout "$LAB_LIMIT" "$LAB_BIN/meshccl" run --no-label -H "$list" --ssh "ip netns exec {host}" --topo "$spec" -- \
    "$LAB_BIN/lab_bench" "$LAB_COLLECTIVES" "$LAB_SIZES" "$LAB_SECONDS" >"$folder/log" 2>&1 </dev/null
  record meshccl "${1:-chosen}" $? "$folder/log"
  unset MESHCCL_ALGO
}

# The hosts in the order of rows, or of a line that winds through the grid.
order_hosts() { # rows | snake
  if [ "$1" = snake ]; then cat "$folder/snake"; else cut -d' ' -f2 "$folder/hosts"; fi | tr '\n' ,
}

run_openmpi() { # NAME ORDER [LAUNCHER OPTIONS...]
  name=$1 order=$2 hosts=$(order_hosts "$2")
  shift 2
  timeout "$LAB_LIMIT" sh "$LAB_HERE/agent.sh" host1 env OMPI_MCA_plm_rsh_agent="$LAB_HERE/agent.sh" TMPDIR="$folder" \
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "$(cat "$LAB_MPI/openmpi.run")" --mca plm rsh \
    --mca plm_rsh_no_tree_spawn 1 --mca oob_tcp_if_include host0 --mca routed direct --mca hwloc_base_binding_policy none \
    --mca mpi_yield_when_idle 1 --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include host0 --host "${hosts%,}" \
    "$@" -x LD_PRELOAD="$LAB_NAP" "$LAB_MPI/openmpi" "$LAB_COLLECTIVES" "$LAB_SIZES" "$LAB_SECONDS" >"$folder/log" 2>&1 </dev/null
  record openmpi "$name,$order" $? "$folder/log"
}

# Forced algorithms of all-reduce, all-gather and reduce-scatter by Open MPI's numbers.
force_openmpi() { # NAME ORDER AR AG RS
  run_openmpi "$1" "$2" --mca coll_tuned_use_dynamic_rules 1 --mca coll_tuned_allreduce_algorithm "$3" \
    --mca coll_tuned_allgather_algorithm "$4" --mca coll_tuned_reduce_scatter_block_algorithm "$5"
}

run_mpich() { # NAME ORDER [VARIABLE=VALUE...]
  name=$1 order=$2 hosts=$(order_hosts "$2")
  shift 2
  timeout "$LAB_LIMIT" sh "$LAB_HERE/agent.sh" host1 env TMPDIR="$folder" UCX_TLS=tcp,self UCX_NET_DEVICES=host0 "$@" \
    "$(cat "$LAB_MPI/mpich.run")" -launcher ssh -launcher-exec "$LAB_HERE/agent.sh" -localhost host1 -iface host0 \
    -bind-to none -hosts "${hosts%,}" -n "$HOSTS_COUNT" env LD_PRELOAD="$LAB_NAP" \
    "$LAB_MPI/mpich" "$LAB_COLLECTIVES" "$LAB_SIZES" "$LAB_SECONDS" >"$folder/log" 2>&1 </dev/null
  record mpich "$name,$order" $? "$folder/log"
}

force_mpich() { # NAME ORDER AR AG RS
  run_mpich "$1" "$2" MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM="$3" MPIR_CVAR_ALLGATHER_INTRA_ALGORITHM="$4" \
    MPIR_CVAR_REDUCE_SCATTER_BLOCK_INTRA_ALGORITHM="$5"
}

# Rings wind through the grid, algorithms that halve and double keep rows together: each in the order that suits it.
run_peers() {
  if [ -x "$LAB_MPI/openmpi" ]; then
    run_openmpi default rows
    force_openmpi ring snake 4 4 4
    if [ "$LAB_PEERS" = all ]; then
      run_openmpi default snake
      force_openmpi segmented+neighbour+halving snake 5 5 3
      force_openmpi rabenseifner+doubling+halving rows 6 3 3
      force_openmpi doubling+bruck+doubling rows 3 2 2
      force_openmpi linear rows 2 1 1
    fi
  fi
  if [ -x "$LAB_MPI/mpich" ]; then
    run_mpich default rows
    force_mpich auto+ring+pairwise snake auto ring pairwise
    if [ "$LAB_PEERS" = all ]; then
      run_mpich default snake
      force_mpich rabenseifner+doubling+halving rows reduce_scatter_allgather recursive_doubling recursive_halving
      force_mpich doubling+bruck+doubling rows recursive_doubling brucks recursive_doubling
    fi
  fi
}

# What the planner and the simulator say of its choice, with the figures that the ranks get.
predict() {
  for collective in $(echo "$LAB_COLLECTIVES" | tr , ' '); do
    for bytes in $(echo "$LAB_SIZES" | tr , ' '); do
      "$LAB_BIN/meshccl" plan "$spec" "$collective" "$bytes" --simulate |
        awk -v what="$collective $bytes" '$1 == "*" { print "plan", what, $4, $2, $3, $6; exit }' >>"$LAB_OUT"
    done
  done
}

mkdir -p "$folder" && "$LAB_BIN/lab_links" "$LAB_SPEC" >"$folder/links" || exit 2
plan_wires
wire
say "shape $LAB_SPEC $LAB_RATE"
measure_link
# The described links are those that a stream found: payload per second, half a round trip; and a frame of the tcp
# transport (transports/tcp/wire.h) is 40 bytes in front of every message.
frame=40
case $LAB_SPEC in *@*) join=, ;; *) join=@ ;; esac
spec=$LAB_SPEC$join${one_way}B/s,$(awk -v t="$round_trip" -v bytes=$frame -v rate="$one_way" 'BEGIN { printf "%dns,o=%dns", t * 500, 1e9 * bytes / rate }')
list=$(cut -d' ' -f2 "$folder/hosts" | tr '\n' ,)
list=${list%,}
if [ -n "$LAB_SHELL" ]; then
  export spec list
  sh -c "$LAB_SHELL"
  exit
fi
predict
run_meshccl ""
for algorithm in $(echo "$LAB_ALGORITHMS" | tr , ' '); do run_meshccl "$algorithm"; done
[ "$LAB_PEERS" = none ] || run_peers
