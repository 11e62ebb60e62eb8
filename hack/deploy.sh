#!/usr/bin/env bash
# Print config/default with other images: hack/deploy.sh OPERATOR_IMAGE VMCP_IMAGE | kubectl apply -f -
# (An overlay in a temporary directory: config/ stays as it is.)
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1 vmcp=$2
kubectl=${KUBECTL:-$(command -v kubectl || echo "$(.venv/bin/python -m hack.controlplane binaries)/kubectl")}
# Kustomize accepts relative paths only.
overlay=$(mktemp -d build.overlay.XXXXXX)
trap 'rm -rf "$overlay"' EXIT
cat > "$overlay/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../config/default]
patches:
  - target: {kind: Deployment, name: mcp-operator-controller-manager}
    patch: |
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: mcp-operator-controller-manager}
      spec:
        template:
          spec:
            containers:
              - name: manager
                image: "$image"
                env:
                  - {name: VMCP_IMAGE, value: "$vmcp"}
YAML
"$kubectl" kustomize "$overlay"
