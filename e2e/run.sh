#!/usr/bin/env bash
# Runs the scenarios against the cluster and the Serin that run now. Arguments go to the test programs, for example a name.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cluster/env.sh
source e2e/cluster/env.sh
# A backtrace says less than the message above it.
export RUST_BACKTRACE=0

# Side by side where a scenario keeps to its own namespace; one at a time where it pulls a cable that all share.
cargo test --locked --package serin-e2e --test stage -- --ignored --test-threads 1 "$@"
cargo test --locked --package serin-e2e --test rollouts -- --ignored --test-threads "${E2E_THREADS:-3}" "$@"
cargo test --locked --package serin-e2e --test strategies -- --ignored --test-threads "${E2E_THREADS:-3}" "$@"
cargo test --locked --package serin-e2e --test cables -- --ignored --test-threads 1 "$@"
