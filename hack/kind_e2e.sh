#!/usr/bin/env bash
# End to end on a kind cluster: hack/kind_e2e.sh OPERATOR_IMAGE VMCP_IMAGE
# Builds both images, makes a cluster of its own, deploys, applies the samples, and checks that the manager becomes Available,
# that every sample which needs no node reaches its expected state, and that the gateways' pods become Ready. Needs docker,
# kind, kubectl and a network. KEEP=1 keeps the cluster.
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

step "deploying"
hack/deploy.sh "$image" "$vmcp" | kubectl apply --server-side -f -
kubectl -n mcp-operator-system wait deployment/mcp-operator-controller-manager --for=condition=Available --timeout=120s

step "applying the samples"
kubectl create namespace samples
kubectl apply -n samples -k config/samples
.venv/bin/python -m hack.run --check-only --kubeconfig "$KUBECONFIG" --namespace samples --ignore-kind VirtualMCPServer

step "waiting for the gateways"
for name in engineering playground; do
  kubectl -n samples wait "deployment/$name" --for=condition=Available --timeout=180s
  kubectl -n samples wait "virtualmcpserver/$name" --for=jsonpath='{.status.phase}'=Ready --timeout=180s
done
kubectl get mcpgroups,mcpserverentries,mcpremoteendpoints,virtualmcpservers -n samples

step "deleting a gateway removes what it owned"
kubectl -n samples delete virtualmcpserver engineering --timeout=60s
kubectl -n samples wait deployment/engineering --for=delete --timeout=60s
step "passed"
