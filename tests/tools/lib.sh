# Sourced by the tests of programs. $bin: the folder of the programs.
set -u
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# good NAME COMMAND...: must return 0. Its output is shown when it does not, and stays in $scratch/out.
good() {
  name=$1
  shift
  if "$@" >"$scratch/out" 2>"$scratch/err"; then
    echo "ok: $name"
  else
    echo "FAILED ($?): $name: $*"
    cat "$scratch/out" "$scratch/err"
    failed=$((failed + 1))
  fi
}

# refused NAME STATUS PART COMMAND...: must return STATUS and name PART on stderr.
refused() {
  name=$1 status=$2 part=$3
  shift 3
  "$@" >"$scratch/out" 2>"$scratch/err"
  got=$?
  if [ "$got" = "$status" ] && grep -q -e "$part" "$scratch/err"; then
    echo "ok: $name"
  else
    echo "FAILED: $name: status $got instead of $status, or \"$part\" is not in:"
    cat "$scratch/err"
    failed=$((failed + 1))
  fi
}

# says NAME EXPRESSION: the last command's output must contain it.
says() {
  grep -qE -e "$2" "$scratch/out" && return
  echo "FAILED: $1: no \"$2\" in:"
  cat "$scratch/out"
  failed=$((failed + 1))
}

# json NAME FILE [PYTHON EXPRESSION OVER d]: the file parses, and the expression holds.
json() {
  command -v python3 >/dev/null || { echo "SKIPPED: no python3, so $1 was not parsed"; return; }
  python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else "the expression does not hold: " + sys.argv[2])' "$2" "${3-True}" && { echo "ok: $1"; return; }
  echo "FAILED: $1"
  failed=$((failed + 1))
}

# As root and on few cores Open MPI wants to be told so; other MPIs ignore this.
with_mpirun() {
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 mpirun "$@"
}
