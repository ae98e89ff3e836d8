#!/usr/bin/env bash
# Everything that can be judged without running it: formatting, clippy, documentation, charts, scripts.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cluster/lib.sh
source e2e/cluster/lib.sh

charts() {
  helm lint --strict charts/serin charts/serin-crds
  helm template serin charts/serin --set replicas=2 --set podDisruptionBudget.enabled=true >/dev/null
  helm template serin-crds charts/serin-crds >/dev/null
  e2e/charts.sh
}

scripts() {
  for script in e2e/*.sh e2e/cluster/*.sh bench/*.sh fuzz/*.sh .ci/run; do bash -n "$script"; done
  ! command -v shellcheck >/dev/null || shellcheck -x e2e/*.sh e2e/cluster/*.sh bench/*.sh fuzz/*.sh .ci/run
}

step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
step "what is generated is up to date" make --no-print-directory generate
step "nothing generated differs from what is committed" git diff --exit-code -- crds charts/serin-crds/files
step "tools of the cluster" e2e/cluster/install.sh
step "charts" charts
step "scripts" scripts
