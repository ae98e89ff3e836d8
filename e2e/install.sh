#!/usr/bin/env bash
# Builds Serin and the demo app, imports both images and installs Serin by its own charts. Run again, it upgrades.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cluster/env.sh
source e2e/cluster/env.sh
# shellcheck source=cluster/lib.sh
source e2e/cluster/lib.sh

target=${CARGO_TARGET_DIR:-target}

build() {
  cargo build --quiet --release --locked --package serin
  cargo build --quiet --locked --package serin-e2e --bins
}

import() {
  e2e/cluster/image.sh "$target/release/serin" "local/serin:$tag" "/usr/bin/serin=$target/release/serin"
  e2e/cluster/image.sh "$target/debug/demo_app" local/demo-app:latest
}

charts() {
  local wait=(--wait --timeout 120s)
  # Kubernetes 1.20 does not know CEL rules and drops them; without the flag helm would refuse them first.
  helm upgrade --install serin-crds charts/serin-crds --namespace serin-system --create-namespace "${wait[@]}" \
    --disable-openapi-validation
  helm upgrade --install serin charts/serin --namespace serin-system "${wait[@]}" \
    --set image.repository=docker.io/local/serin --set image.tag="$tag" --set image.pullPolicy=Never \
    --set metricsServer=http://prometheus.monitoring:9090 \
    --set drainDelay=2s --set routeGracePeriod=5s --set queryTimeout=2s --set logFormat=text
}

step "build Serin and the demo app" build
# The tag is the content: a pod never runs an older image than the one that was built.
tag=$(sha256sum "$target/release/serin" | cut -c1-12)
step "import their images" import
step "install the charts" charts
echo "Serin runs in namespace serin-system; next: make demo, or source e2e/cluster/env.sh and use kubectl"
