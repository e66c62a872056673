#!/usr/bin/env bash
# Apply an overlay to the current cluster, in the order that a release needs: databases, topics and secrets; then the
# migrations; then the APIs, the workers and the operators' page. It stops at the first step that fails, so code never runs
# without its schema.
set -euo pipefail
cd "$(dirname "$0")"
overlay=${1:-}
if [ ! -d "overlays/${overlay:-none}" ]; then
    echo "usage: rollout.sh $(ls overlays | paste -sd '|')" >&2
    exit 2
fi
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
if command -v kustomize >/dev/null; then
    kustomize build "overlays/$overlay" >"$rendered"
else
    kubectl kustomize "overlays/$overlay" >"$rendered"
fi
if grep -q 'sha256:0\{64\}' "$rendered"; then
    echo "overlays/$overlay: set the digest of every image first (docs/deploy.md)" >&2
    exit 2
fi
role=app.kubernetes.io/component

echo "applying what the services need"
kubectl apply -f "$rendered" -l "$role notin (api, worker, page, migrate)"
kubectl -n cooee wait --for=condition=Ready --timeout=15m --all \
    externalsecret,cluster.postgresql.cnpg.io,kafka,kafkatopic,kafkauser

echo "migrating"
kubectl -n cooee delete job -l "$role=migrate" --ignore-not-found # a Job cannot be changed
kubectl apply -f "$rendered" -l "$role=migrate"
kubectl -n cooee wait --for=condition=Complete --timeout=15m job -l "$role=migrate"

echo "replacing the APIs, workers and the operators' page"
kubectl apply -f "$rendered" -l "$role in (api, worker, page)"
kubectl -n cooee rollout status deployment -l "$role in (api, worker, page)" --timeout=15m
