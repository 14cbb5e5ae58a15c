#!/bin/sh
# The main job, from a clean clone: builds the library, runs an all-reduce over a 2x2 torus of processes, explains the
# schedule that it used, and trains a small language model on two ranks. A second run finds everything built.
set -eu
cd "$(dirname "$0")/.."
. .ci/setup.sh

step() {
  printf '\n== %s\n   %s\n\n' "$1" "$2"
  # Commands stand below as they are to be typed.
  eval "$2"
}

setup_packages
setup_build release
step "An all-reduce over a 2x2 torus of processes" \
  "build/bin/all_reduce_perf --np 4 --topo torus:2x2 -b 8 -e 16M -f 8"
step "The schedule that it used, and the ones that lost" \
  "build/bin/meshccl plan torus:2x2 all_reduce 16M"
step "Training on two ranks, gradients reduced while the backward pass runs" \
  "build/bin/meshccl run -n 2 -- build/bin/train_charlm README.md docs/*.md"
