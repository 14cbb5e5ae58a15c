#!/bin/sh
# Checks the table "Who may include what" of docs/architecture.md. A row here is a row there; system headers are only
# looked at where the table speaks of them.
cd "$(dirname "$0")/../.." || exit 2
found=$(mktemp)
trap 'rm -f "$found"' EXIT

includes() { # PATHS: lines "file:header"
  grep -rHE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' "$@" |
    sed -E 's/^([^:]*):[^"<]*["<]([^">]*)[">].*/\1:\2/'
}

# rule WHO ALLOWED PATHS...: project headers (those with a folder of ours in front, and neighbours' without any folder)
# must match the extended regular expression ALLOWED.
ours='(base|sched|kernels|device|transport|boot|exec|api|tools|topo|transports|support|suite|perf|meshccl)/'
rule() {
  who=$1 allowed=$2
  shift 2
  includes "$@" | grep -E ":$ours" | grep -vE ":($allowed)" | sed "s|\$| ($who may not)|" >>"$found"
}

rule src/base '(base/|meshccl/(transport|result)\.h$)' src/base
rule src/sched '(base|sched)/|meshccl/result\.h$' src/sched
rule src/kernels '(base|kernels)/|meshccl/(device|result)\.h$' src/kernels
rule src/transport '(base|transport)/|meshccl/(transport|result)\.h$' src/transport
rule src/device '(base|device)/|kernels/kernels\.h$|meshccl/(device|result)\.h$' src/device
rule topo '(base|sched|topo)/|meshccl/result\.h$' topo
rule "topo outside plan" '(base|sched)/|topo/[^/]*$|meshccl/result\.h$' $(find topo -maxdepth 1 -name '*.[ch]')
rule topo/sim '(base|sched)/|topo/(sim/)?[^/]*$|meshccl/result\.h$' topo/sim
rule topo/plan '(base|sched)/|topo/(plan/)?[^/]*$|meshccl/result\.h$' topo/plan
rule src/boot '(base|boot)/|topo/[^/]*$|meshccl/result\.h$' src/boot
rule src/exec '(base|sched|exec)/|(transport/registry|device/device)\.h$|meshccl/(transport|device|result)\.h$' src/exec
rule src/api '(base|sched|kernels|device|transport|topo|boot|exec|api|meshccl)/' src/api
rule src/tools '(base|sched|kernels|device|transport|topo|boot|exec|tools|meshccl)/' src/tools
for folder in transports/*/; do
  rule transports "meshccl/(transport|result)\.h\$|$folder" "$folder"
done
rule "tests below api" '(base|sched|kernels|device|transport|boot|exec|topo|transports|support|suite|perf|meshccl)/' \
  $(find tests/unit -mindepth 1 -maxdepth 1 ! -name api) tests/support tests/conformance tests/golden \
  $(find tests -maxdepth 1 -name fuzz)
rule "tests of the api" '(base|sched|kernels|device|transport|boot|exec|topo|api|support|meshccl)/' tests/unit/api
rule integration 'meshccl/' tests/integration
rule perf '(perf|meshccl)/' $(find perf -mindepth 1 -maxdepth 1 ! -name kernels)
rule perf/kernels '(base|kernels)/' perf/kernels
rule examples 'meshccl/' examples

# Third parties: the hash of base and the keys of boot are libsodium's, discovery asks hwloc, machine files are read with
# libyaml; transports bring their own.
includes src topo | grep -E ':(sodium|hwloc|yaml)' | grep -vE '^src/(base|boot)/[^:]*:sodium\.h$' |
  grep -vE '^(src/boot/(discover|cores)\.c:hwloc|topo/machine[^:]*\.c:yaml)\.h$' |
  sed 's/$/ (third party: libsodium in base and boot, hwloc in boot\/discover.c and cores.c, libyaml in topo\/machine*.c)/' >>"$found"
# Public headers stand alone.
includes include | grep -vE ':(std(def|int|io)\.h|meshccl/result\.h)$' | sed 's/$/ (a public header may not)/' >>"$found"

if [ -s "$found" ]; then
  echo "includes outside the table of docs/architecture.md:"
  sed 's/^/  /' "$found"
  exit 1
fi
echo "includes: as in docs/architecture.md ($(includes src topo transports tests perf examples include | wc -l) lines)"
