#!/usr/bin/env bash
# End to end in real pods: starts the project's own cluster, builds and imports the images, runs tests/cluster, and removes
# the cluster, also when something failed. KEEP=1 keeps it. Arguments go to pytest. Prints how long each part took.
# Where the machine cannot run a cluster, or runs one already, it says "skipped:" and why, and ends with 0.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=(.venv/bin/python -m hack.cluster)
if ! "${cluster[@]}" check; then exit 0; fi
if [[ -z ${KEEP:-} ]] && [[ $("${cluster[@]}" status) == *": up,"* ]]; then
  echo "skipped: a cluster runs on this machine already, and there can be only one; KEEP=1 uses it, make cluster-down removes it" >&2
  exit 0
fi
start=$SECONDS
finish() {
  status=$?
  if [[ -z ${KEEP:-} ]]; then "${cluster[@]}" down; fi
  echo "==> e2e-cluster: $((SECONDS - start)) s, exit status $status"
  exit $status
}
trap finish EXIT
eval "$("${cluster[@]}" up)"
"${cluster[@]}" images
echo "==> up with images after $((SECONDS - start)) s"
CLUSTER_KUBECONFIG=$KUBECONFIG .venv/bin/pytest -q -p no:xdist --durations=10 tests/cluster "$@"
