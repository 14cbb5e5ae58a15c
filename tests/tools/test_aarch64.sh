#!/bin/sh
# test_aarch64.sh SOURCE: on another processor: all of the library compiles for AArch64, and the tests of the kernels
# pass under qemu-user, with the NEON set and the portable one. 77 without the cross compiler or without qemu.
# libsodium, hwloc and libyaml are rarely there for another processor, so the library is not linked; their headers, the
# same for all processors, are enough to compile.
source=$1
compiler=aarch64-linux-gnu-gcc
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static)
if ! command -v $compiler >/dev/null || [ -z "$qemu" ]; then
  echo "skipped: needs $compiler and qemu-aarch64 (Debian: gcc-aarch64-linux-gnu, qemu-user)"
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$source" || exit 2
flags="-std=gnu11 -O2 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
  -Wwrite-strings -fno-common -fno-strict-aliasing -ffp-contract=off -Iinclude -Isrc -I. -Itests"

# shellcheck disable=SC2086,SC2046
$compiler $flags -fsyntax-only -idirafter /usr/include -idirafter "/usr/include/$(cc -print-multiarch 2>/dev/null)" \
  $(find src topo transports/shm transports/self transports/tcp -name '*.c') || exit 1
echo "all of the library compiles"

for test in fold convert; do
  # shellcheck disable=SC2086
  $compiler $flags -static -Itests/support/cross -idirafter /usr/include -pthread -o "$scratch/$test" \
    tests/unit/kernels/test_kernels_$test.c tests/support/random.c src/kernels/*.c \
    $(ls src/base/*.c | grep -vE '/(hash|net|net_text)\.c') -lm || exit 1
  "$qemu" "$scratch/$test" || exit 1
done
