#!/bin/sh
# test_install.sh BUILD_FOLDER SOURCE_FOLDER CC [SANITIZERS]: installs into a new prefix, moves it, and uses what is there
# as a stranger would: headers alone in C11 and C++17, a program by pkg-config and by find_package, tools, symbols.
set -eu
build=$1 source=$2 cc=$3 sanitize=${4-}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
flags=${sanitize:+-fsanitize=$sanitize}
say() { echo "ok: $*"; }

cmake --install "$build" --prefix "$scratch/first" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
mv "$scratch/first" "$scratch/prefix"
prefix=$scratch/prefix
library=$(find "$prefix" -name libmeshccl.so)
PKG_CONFIG_PATH=$(dirname "$library")/pkgconfig
export PKG_CONFIG_PATH

for header in result device transport topo meshccl; do
  test -f "$prefix/include/meshccl/$header.h"
  echo "#include <meshccl/$header.h>" >"$scratch/alone.c"
  cp "$scratch/alone.c" "$scratch/alone.cc"
  "$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror -I"$prefix/include" -c -o "$scratch/alone.o" "$scratch/alone.c"
  if command -v c++ >/dev/null; then
    c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -I"$prefix/include" -c -o "$scratch/alone.o" "$scratch/alone.cc"
  else
    echo "SKIPPED: no c++ here, so $header.h was not tried as C++17"
  fi
done
say "each public header compiles alone"

other=$(nm -D --defined-only "$library" | awk '$2 != "A" && $3 !~ /^meshccl/ { print $3 }')
[ -z "$other" ] || { echo "exported beyond meshccl*: $other"; exit 1; }
nm -D --defined-only "$library" | grep -q ' meshcclAllReduce' || { echo "meshcclAllReduce is not exported"; exit 1; }
readelf -d "$library" | grep -q 'SONAME.*libmeshccl\.so\.0\]' || { echo "the soname is not libmeshccl.so.0"; exit 1; }
[ -z "$(find "$prefix" -name '*.a')" ] || { echo "a static archive of the internals was installed"; exit 1; }
say "only meshccl* is exported, soname 0"

cp "$source/examples/hello.c" "$scratch/hello.c"
# shellcheck disable=SC2046,SC2086
"$cc" $flags -o "$scratch/hello" "$scratch/hello.c" $(pkg-config --cflags --libs meshccl) -Wl,-rpath,"$(dirname "$library")"
[ "$("$scratch/hello")" = "rank 0 of 1: 0 1" ] || { echo "hello by pkg-config says something else"; exit 1; }
say "a program by pkg-config $(pkg-config --modversion meshccl)"

mkdir "$scratch/project"
cat >"$scratch/project/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(stranger C)
find_package(meshccl 0.1 REQUIRED)
add_executable(hello ../hello.c)
target_link_libraries(hello PRIVATE meshccl::meshccl)
END
cmake -S "$scratch/project" -B "$scratch/project/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" \
  -DCMAKE_C_FLAGS="$flags" >"$scratch/log" 2>&1 && cmake --build "$scratch/project/build" >>"$scratch/log" 2>&1 ||
  { cat "$scratch/log"; exit 1; }
[ "$("$scratch/project/build/hello")" = "rank 0 of 1: 0 1" ] || { echo "hello by find_package says something else"; exit 1; }
say "a program by find_package"

if [ -x "$prefix/bin/meshccl" ]; then
  "$prefix/bin/meshccl" run -n 2 -- "$scratch/hello" | sort >"$scratch/said"
  printf '[0] rank 0 of 2: 1 2\n[1] rank 1 of 2: 1 2\n' | diff - "$scratch/said"
  say "the installed launcher starts it"
fi
if [ -x "$prefix/bin/all_reduce_perf" ]; then
  "$prefix/bin/all_reduce_perf" --np 2 -b 8 -e 1K -f 8 -n 1 >"$scratch/log" || { cat "$scratch/log"; exit 1; }
  "$prefix/bin/workload_perf" --np 2 -m resnet50 -s 0.01 -n 1 -k 0 >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
  say "the installed perf programs find library and workloads"
fi
