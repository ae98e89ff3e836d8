#!/usr/bin/env bash
# Runs the scenarios against the cluster and the Serin that run now. Arguments go to the test programs, for example a name.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=cluster/env.sh
source e2e/cluster/env.sh
# A backtrace says less than the message above it.
export RUST_BACKTRACE=0

run() {
    local suite=$1 threads=$2
    shift 2
    cargo test --locked --package serin-e2e --test "$suite" -- --ignored --test-threads "$threads" "$@"
}

# Side by side where a scenario keeps to its own namespace; one at a time where it pulls a cable that all share.
run stage 1 "$@"
run examples 1 "$@"
for suite in rollouts lifecycle strategies gates autoscaling; do
    run "$suite" "${E2E_THREADS:-3}" "$@"
done
run cables 1 "$@"
