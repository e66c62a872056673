#!/usr/bin/env bash
# Install kustomize with Go when neither it nor kubectl is found. Without Go the tests say what is missing.
set -euo pipefail
for name in kustomize kubectl; do
    command -v "$name" >/dev/null && exit 0
done
if command -v go >/dev/null; then
    echo "installing kustomize (some minutes, only once)"
    GOBIN="${GOBIN:-/usr/local/bin}" go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.1
fi
