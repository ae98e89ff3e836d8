#!/usr/bin/env bash
# Builds Serin and the benchmark, sees to the programs that it starts, and runs it: bench/run.sh load|retreat|soak [FLAG...]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=../e2e/cluster/lib.sh
source e2e/cluster/lib.sh

# The benchmark has a cluster of its own.
unset KUBECONFIG
[ -e "$INSTALLED" ] || e2e/cluster/install.sh
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$SERIN_CACHE/target}
cargo build --quiet --release --locked --package serin --package serin-bench
exec "$CARGO_TARGET_DIR/release/serin-bench" "$1" --serin "$CARGO_TARGET_DIR/release/serin" "${@:2}"
