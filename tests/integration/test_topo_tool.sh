#!/bin/sh
# `meshccl topo`: figures, drawing, damage, JSON, and an exit status that tells mistakes from topologies in pieces.
# Usage: test_topo_tool.sh PATH_OF_MESHCCL
set -u
meshccl=$1
failures=0

# expect STATUS TEXT ARGUMENTS...: the status, and TEXT somewhere in stdout and stderr
expect() {
  status=$1 text=$2
  shift 2
  out=$("$meshccl" topo "$@" 2>&1)
  got=$?
  if [ $got -ne "$status" ]; then
    echo "meshccl topo $*: exit status $got, expected $status"
    failures=$((failures + 1))
  fi
  case $out in
    *"$text"*) ;;
    *) echo "meshccl topo $*: \"$text\" is missing in: $out"; failures=$((failures + 1)) ;;
  esac
}

expect 0 "torus:4x4@50GB/s,500ns" torus:4x4
expect 0 "diameter    4 hops" torus:4x4
expect 0 "- 12 -- 13 -- 14 -- 15 -" torus:4x4
expect 0 "ranks       1062000" mesh:1000x1062
expect 0 "3    x    4" mesh:3x3@dead=1.1
expect 0 "+25.0%" mesh:5x5@dead=1.1 --bytes 64M
expect 0 '"spec":"ring:3@50GB/s,500ns","ranks":3,"dims":[3],"wraps":[true]' ring:3 --json
expect 0 '{"collective":"all_reduce","factor":0.666666667,"exact":true' ring:3 --json
expect 0 '"drawing":"0 -- 1\u000a"' line:2 --json --draw
expect 0 '"drawing":""' torus:3x3x3 --json --draw
expect 1 "in pieces" mesh:3x3@dead=0.1+1.0
expect 2 '"9.9" at character 15' mesh:3x3@dead=9.9
expect 2 "ranks 0 to 2" ring:3 --root 3
expect 0 "tile: 6 groups of 25 ranks, between them 900 GB/s, 100 ns" dojo-tray
expect 0 "all_reduce           0.5826    yes" dojo-tray
expect 0 "ttp: a switch with 400 ports, 50 GB/s, 1300 ns" dojo-exapod
expect 0 '"levels":[{"name":"tile","groups":6,"bandwidth_Bps":900000000000' dojo-tray --json
expect 0 "{name: tray, of: 2x3, links: links-1}" dojo-tray --yaml
expect 2 "dojo-tray" dojo-trey
expect 2 "/nowhere/x.yaml: No such file" /nowhere/x.yaml
expect 2 "no regular file" /dev/null

# A machine that is printed, edited and given back by its path; names in another folder.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$meshccl" topo dojo-tile --yaml >"$folder/mine.yaml"
echo "dead: [2.2]" >>"$folder/mine.yaml"
expect 0 "mesh:5x5@2TB/s,100ns,level=tile:5x5:2TB/s:100ns,dead=2.2" "$folder/mine.yaml"
MESHCCL_MACHINES=$folder
export MESHCCL_MACHINES
expect 0 "dead=2.2" mine
expect 2 "machines mine;" dojo-tray
unset MESHCCL_MACHINES
echo "dead: [7.7]" >>"$folder/mine.yaml"
expect 2 "$folder/mine.yaml:8:1: \"dead\" is given twice, also in line 7" "$folder/mine.yaml"
sed -i -e 7d -e 's/dead:/broken:/' "$folder/mine.yaml"
expect 2 "$folder/mine.yaml:7:1: \"broken\" is no key here" "$folder/mine.yaml"
expect 2 '"x" is not a rank' ring:3 --root x
expect 2 "--bytes" ring:3 --bytes lots
expect 2 "lacks its value" ring:3 --bytes
expect 2 '"--colour"' ring:3 --colour
expect 2 "a topology is missing"
expect 0 "usage: meshccl topo" --help

# What is discovered is read back as it was printed.
saved=$(mktemp --suffix=.yaml) || exit 1
machine="package:2 numa:2 l3:2 core:2 pu:1"
found="full:16@20GB/s,200ns,level=cache:2*8:15GB/s:300ns,level=numa:4*4:10GB/s:500ns,level=package:8*2:8GB/s:700ns"
expect 0 "$found" --discover --hwloc "$machine"
expect 0 "packages 2, NUMA nodes 4, L3 caches 8" --discover --hwloc "$machine"
"$meshccl" topo --discover --hwloc "$machine" >"$saved"
expect 0 "$found" "$saved"
expect 0 "full:6@20GB/s,500ns,o=135ns,level=host:4+2:1.25GB/s:20us,memory" --discover --hosts a:4,b:2
expect 0 "# b: ranks 4 to 5" --discover --hosts a:4,b:2
"$meshccl" topo --discover >"$saved"
expect 0 "ranks " "$saved"
rm -f "$saved"
expect 2 "hwloc does not understand" --discover --hwloc nonsense:1
expect 2 "unexpected argument" --discover torus:2x2
expect 2 "no number of slots" --discover --hosts a:x

# A mistake says nothing on stdout, so that a reader of JSON sees no half an object.
if [ -n "$("$meshccl" topo ring:0 --json 2>/dev/null)" ]; then
  echo "a bad spec wrote to stdout"
  failures=$((failures + 1))
fi
[ $failures -eq 0 ]
