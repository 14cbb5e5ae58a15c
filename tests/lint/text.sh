#!/bin/sh
# What must not stand in a committed file: paths of somebody's machine, notes to oneself, conflict marks, spaces at the
# end of a line. Format is looked at too when clang-format is there, as a warning: its versions differ.
cd "$(dirname "$0")/../.." || exit 2
bad=0

files() {
  git ls-files --cached --others --exclude-standard 2>/dev/null | grep . ||
    find . -type f -not -path './.git/*' -not -path './build*' -not -path './.cache/*'
}

# refuse WHAT EXPRESSION: an [x] in an expression keeps it from finding itself.
refuse() {
  lines=$(files | tr '\n' '\0' | xargs -0 grep -IsnE "$2") || return 0
  printf 'not allowed: %s\n%s\n' "$1" "$lines"
  bad=1
}

[ "$(files | wc -l)" -gt 100 ] || { echo "text: no files found"; exit 1; }
refuse "an absolute path of a machine" '(^|[^A-Za-z0-9_.}/-])/(hom[e]|roo[t]|User[s]|wor[k])/[A-Za-z0-9]'
refuse "a note to oneself" '(^|[^A-Za-z])(TOD[O]|FIXM[E]|XX[X]|HAC[K])([^A-Za-z]|$)'
refuse "a conflict mark" '^(<<<<<<[<]|>>>>>>[>])'
refuse "a space at the end of a line" '[[:blank:]]$'

if command -v clang-format >/dev/null; then
  files | sed 's|^\./||' | grep -E '^(src|topo|transports|tests|perf|examples)/.*\.[ch]$' |
    xargs clang-format --dry-run 2>&1 | sed -n 's/^\([^:]*\):.*warning:.*/warning: clang-format would change \1/p' | sort -u
fi
[ "$bad" = 0 ] && echo "text: clean"
exit "$bad"
