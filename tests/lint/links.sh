#!/bin/sh
# Every relative link of the documents leads to a file, and one to a heading of the same document to that heading.
cd "$(dirname "$0")/../.." || exit 2
awk '
  function anchor(text) { text = tolower(text); gsub(/[^a-z0-9 _-]/, "", text); gsub(/ /, "-", text); return text }
  /^#+ / { text = $0; sub(/^#+ /, "", text); known[FILENAME "#" anchor(text)] = 1 }
  { line = $0
    while (match(line, /\]\([^()]*\)/)) {
      target = substr(line, RSTART + 2, RLENGTH - 3); line = substr(line, RSTART + RLENGTH)
      if (target !~ /^[a-z]+:/) { n++; from[n] = FILENAME ":" FNR; file[n] = FILENAME; to[n] = target }
    } }
  END {
    for (i = 1; i <= n; i++) {
      folder = file[i]; if (!sub(/\/[^\/]*$/, "", folder)) folder = "."
      path = to[i]; part = ""
      if (match(path, /#/)) { part = substr(path, RSTART + 1); path = substr(path, 1, RSTART - 1) }
      full = path == "" ? file[i] : (folder == "." ? path : folder "/" path)
      if (path != "" && system("test -e \"" full "\"") != 0) { print from[i] ": no file " full; bad = 1 }
      else if (part != "" && full ~ /\.md$/ && !(full "#" part in known)) { print from[i] ": no heading #" part " in " full; bad = 1 }
    }
    print "links: " n " looked at"; exit bad || n < 10
  }' README.md docs/*.md
