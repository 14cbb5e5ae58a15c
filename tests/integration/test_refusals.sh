#!/bin/sh
# test_refusals.sh HOSTS STAY_AWAY [inside FOLDER]: mistakes of people who start jobs. Every rank ends in time with an
# error that says what is wrong and what to do. On two hosts that are network namespaces, so that ports are their own.
set -u
hosts=$1 rank_program=$2
limit=2  # MESHCCL_INIT_TIMEOUT
slack=10 # of a machine under load

fail() {
  echo "FAILED: $*"
  exit 1
}

# Starts one rank of the case.
rank() { # HOST RANK SIZE VARIABLE=VALUE...
  host=$1 n=$2 size=$3
  shift 3
  count=$((count + 1))
  env RANK="$n" WORLD_SIZE="$size" MASTER_ADDR=10.77.0.1 MASTER_PORT=5000 MESHCCL_INIT_TIMEOUT=$limit "$@" \
    "$HOSTS" on "$host" timeout $((limit + slack)) "$rank_program" >"$folder/log.$count" 2>&1 &
  started="$started $!"
}

# All ranks of the case have failed, each with a text that matches its pattern.
judge() { # CASE PATTERN...
  name=$1
  shift
  number=0
  for process in $started; do
    number=$((number + 1))
    wait "$process"
    status=$?
    text=$(cat "$folder/log.$number")
    [ $status != 0 ] || fail "$name: process $number has no error"
    [ $status != 124 ] || fail "$name: process $number hangs"
    [ $status -lt 124 ] || fail "$name: process $number ended with $status: $text"
    echo "$text" | grep -qE "$1" || fail "$name: process $number does not say \"$1\": $text"
    [ $# = 1 ] || shift
  done
  echo "ok: $name"
  started= count=0
}

inside() {
  started= count=0
  secret=MESHCCL_SECRET=of-this-test
  rank 1 0 2 $secret; rank 2 1 3 $secret
  judge "different sizes" "nranks|size|ranks"

  rank 1 0 3 $secret; rank 2 1 3 $secret; rank 2 1 3 $secret
  judge "the same rank twice" "rank 1.*(twice|already|another process|own number)"

  rank 1 0 2 MESHCCL_SECRET=this; rank 2 1 2 MESHCCL_SECRET=that
  judge "different secrets" "rank 1 has not joined" "MESHCCL_SECRET"

  rank 1 0 2; rank 2 1 2
  judge "no secret" "MESHCCL_SECRET"

  rank 2 1 2 $secret MASTER_ADDR=10.77.0.9
  judge "nobody has the address" "10.77.0.9"

  rank 2 1 2 $secret
  judge "nobody listens there" "10.77.0.1:5000.*refused"

  # another job holds the port
  RANK=0 WORLD_SIZE=2 MASTER_ADDR=10.77.0.1 MASTER_PORT=5002 MESHCCL_PORT=5000 MESHCCL_SECRET=of-another MESHCCL_INIT_TIMEOUT=600 \
    "$HOSTS" on 1 "$rank_program" >"$folder/holder" 2>&1 &
  holder=$!
  until "$HOSTS" on 1 ss -tln | grep -q :5000; do sleep 0.01; done
  rank 1 0 2 $secret; rank 2 1 2 $secret
  judge "the port is in use" "5000.*in use" "MESHCCL_SECRET|10.77.0.1:5000"
  rank 1 0 2 $secret MASTER_PORT=5001 MESHCCL_PORT_RANGE=5000-5000
  judge "no port of the range is free" "MESHCCL_PORT_RANGE=5000-5000"
  kill -KILL $holder

  printf 'meshccl-machine: 1\nname: cut\nlevels:\n  - name: di' >"$folder/cut.yaml"
  printf 'a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n' >"$folder/bomb.yaml"
  printf '\303\050\200\001' >"$folder/noise.yaml"
  : >"$folder/empty.yaml"
  for file in cut bomb noise empty; do
    rank 1 0 2 $secret MESHCCL_TOPO="$folder/$file.yaml"; rank 2 1 2 $secret MESHCCL_TOPO="$folder/$file.yaml"
    judge "machine file: $file" "$file\\.yaml:([0-9]+:[0-9]+: | byte [0-9]+)"
  done
}

if [ "${3-}" = inside ]; then
  folder=$4
  inside
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$hosts" run --hosts 2 -- sh "$0" "$hosts" "$rank_program" inside "$folder"
exit $?
