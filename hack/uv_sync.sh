#!/usr/bin/env bash
# Make a virtual environment hold what a lock file names, and nothing else: hack/uv_sync.sh UV ENVIRONMENT LOCK
# UV is the one in an environment that has pip, too.
#
# By uv, because it installs what is locked in a fraction of pip's time, and because pip 23, which Debian 12 has, takes the newest
# version of a package that one asks for with an extra and another without, whatever is locked. uv reads none of pip's
# settings, so those that say where packages come from are handed on.
set -euo pipefail
uv=$1 environment=$2 lock=$3
settings=$("$(dirname "$uv")/python" -m pip --disable-pip-version-check config list)
# The last one wins: pip lists its files before the variables of the environment.
setting() { sed -n "s/^[^=]*\\.$1='\\(.*\\)'\$/\\1/p" <<<"$settings" | tail -n 1; }
pass() { if [[ -z ${!1:-} && -n $2 ]]; then export "$1=$2"; fi; }
pass UV_DEFAULT_INDEX "$(setting index-url)"
pass UV_INDEX "$(setting extra-index-url)"
pass UV_FIND_LINKS "$(setting find-links | tr ' ' ',')"
pass SSL_CERT_FILE "$(setting cert)"
"$uv" pip sync --quiet --python "$environment/bin/python" --require-hashes "$lock"
