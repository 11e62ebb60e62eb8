#!/usr/bin/env bash
# Resolve the environments of the interoperability matrix again: hack/lock_matrix.sh [NAME...], all of locks/matrix/releases.txt by default.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" != --help ] || { sed -n 2p "$0" | cut -c3-; exit; }
grep -v '^#' locks/matrix/releases.txt | while read -r name requirement date; do
  [ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
  as_of=()
  [ "$date" = - ] || as_of=(--exclude-newer "$date")
  echo "$requirement" | .venv/bin/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
    "${as_of[@]}" - -o "locks/matrix/$name.txt"
done
