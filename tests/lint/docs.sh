#!/bin/sh
# docs.sh MESHCCL: docs/environment.md is what `meshccl info --docs` prints.
cd "$(dirname "$0")/../.." || exit 2
"$1" info --docs | diff -u docs/environment.md - || {
  echo "docs/environment.md is out of date: meshccl info --docs > docs/environment.md"
  exit 1
}
