#!/usr/bin/env bash
# What a user does with a new cluster, step by step: hack/e2e_steps.sh OPERATOR_IMAGE VMCP_IMAGE
# Deploys into the cluster of KUBECONFIG, whose nodes must have both images, applies the samples, and checks that the manager
# becomes Available, that every sample reaches its expected state, that gateways become Ready, and that what they owned goes
# with them. `make e2e-cluster` runs it in the project's own cluster, hack/kind_e2e.sh in one of kind.
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1 vmcp=$2
kubectl=${KUBECTL:-kubectl}
step() { echo "==> $*"; }

step "deploying"
hack/deploy.sh "$image" "$vmcp" | "$kubectl" apply --server-side --force-conflicts -f - >/dev/null
"$kubectl" -n mcp-operator-system rollout status deployment/mcp-operator-controller-manager --timeout=120s

step "applying the samples"
"$kubectl" create namespace samples
"$kubectl" apply -n samples -k config/samples >/dev/null
.venv/bin/python -m hack.run --check-only --kubeconfig "$KUBECONFIG" --namespace samples --ignore-kind VirtualMCPServer

step "gateways become Ready: one with a list of backends, and one that finds its backends itself"
"$kubectl" -n samples wait virtualmcpserver/playground --for=condition=Ready --timeout=180s
"$kubectl" -n samples wait deployment/playground --for=condition=Available --timeout=60s
"$kubectl" -n samples wait virtualmcpserver/engineering --for=condition=Ready --timeout=180s
"$kubectl" get mcpgroups,mcpserverentries,mcpremoteendpoints,virtualmcpservers -n samples

step "deleting a gateway removes what it owned"
"$kubectl" -n samples delete virtualmcpserver playground --timeout=60s
"$kubectl" -n samples wait deployment/playground --for=delete --timeout=60s
"$kubectl" delete namespace samples --timeout=120s
step "passed"
