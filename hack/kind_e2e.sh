#!/usr/bin/env bash
# End to end on a kind cluster: hack/kind_e2e.sh OPERATOR_IMAGE VMCP_IMAGE
# Builds both images with docker, makes a cluster of its own, and runs hack/e2e_steps.sh in it. Needs docker, kind, kubectl
# and a network. KEEP=1 keeps the cluster.
# Not run by CI, which has no container engine: what is run there are the same steps in the project's own cluster
# (make e2e-cluster). docker build, kind create and kind load below are run by whoever has both tools.
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1 vmcp=$2
cluster=mcp-operator-e2e
for tool in docker kind kubectl; do
  command -v "$tool" >/dev/null || { echo "error: kind-e2e needs $tool" >&2; exit 1; }
done

step() { echo "==> $*"; }
finish() {
  status=$?
  if [[ $status -ne 0 ]]; then
    kubectl get pods -A || true
    kubectl -n mcp-operator-system logs deployment/mcp-operator-controller-manager --tail=50 || true
  fi
  if [[ -z ${KEEP:-} ]]; then kind delete cluster --name "$cluster"; fi
  rm -f "$KUBECONFIG"
  exit $status
}

step "building the images (usually 2 minutes)"
docker build -q -f Dockerfile -t "$image" .
docker build -q -f Dockerfile.vmcp -t "$vmcp" .

step "making the cluster $cluster (usually a minute)"
KUBECONFIG=$(mktemp); export KUBECONFIG
trap finish EXIT
kind create cluster --name "$cluster" --wait 120s
kind load docker-image --name "$cluster" "$image" "$vmcp"

hack/e2e_steps.sh "$image" "$vmcp"
