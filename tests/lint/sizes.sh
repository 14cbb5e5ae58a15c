#!/bin/sh
# A file has at most 600 lines, a function at most 80. A function runs from an unindented line to the next "}" in column
# 1, which the project's format guarantees.
cd "$(dirname "$0")/../.." || exit 2
find src topo transports tests perf examples include -name '*.[ch]' -print | sort | xargs awk '
  FNR == 1 { check_file(); file = FILENAME; start = 0; inside = 0 }
  { lines = FNR }
  /^[A-Za-z_]/ && !inside { start = FNR; name = $0 }
  /\) \{$/ && start && !inside { inside = 1 }
  /^}/ {
    if (inside && FNR - start + 1 > 80) { printf "%s:%d: a function of %d lines: %s\n", file, start, FNR - start + 1, name; bad = 1 }
    functions += inside; inside = 0; start = 0
  }
  function check_file() { if (lines > 600) { printf "%s: %d lines\n", file, lines; bad = 1 } }
  END { check_file(); printf "sizes: %d functions looked at\n", functions; exit bad || functions < 500 }'
