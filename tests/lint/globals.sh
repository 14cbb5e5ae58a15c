#!/bin/sh
# globals.sh ARCHIVE: mutable globals of the library stand in src/base/globals.c and src/api/globals.c only. Constant
# tables, per-thread data and what a sanitizer adds do not count, nor does transports/mpi/mpi_process.c, which sees the
# public headers only and whose state is that of the process in MPI.
found=$(nm -A -f sysv "$1" 2>/dev/null | awk -F'|' '
  $3 ~ /[bBdDC]/ && $7 !~ /rel\.ro|tbss|tdata/ {
    n = split($1, part, ":")
    name = part[n]
    sub(/ *$/, "", name)
    if (part[n - 1] == "globals.c.o") { here = 1; next }
    if (part[n - 1] == "mpi_process.c.o") next
    if (name !~ /^(__|_?\.L|gcov)/) print part[n - 1] ": " name
  }
  END { if (!here) print "no globals found at all: not an archive of the library" }')
[ -z "$found" ] && echo "globals: in the two files only" && exit 0
echo "mutable globals outside src/base/globals.c and src/api/globals.c:"
echo "$found"
exit 1
