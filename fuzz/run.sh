#!/usr/bin/env bash
# Looks for bytes that break a promise: every target for SECONDS_EACH seconds, one after the other, or only those that are
# named. What it finds is put into fuzz/found/TARGET, to be named, mended and committed: `cargo test` replays it for ever.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${SECONDS_EACH:-60}
cache=${SERIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/serin}
# What was learnt the last time; the seeds in the repository are only the beginning.
corpus=$cache/fuzz/corpus
# Other flags than everything else has, so other files.
export CARGO_TARGET_DIR=$cache/fuzz/target
export PATH=$PATH:$cache/fuzz/tools/bin

command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --root "$cache/fuzz/tools" cargo-fuzz

# The sanitizers of cargo-fuzz need a nightly compiler; there is no unsafe code here for which they would be needed.
options=(--sanitizer none --features fuzzing)
cargo fuzz build "${options[@]}"

targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
    echo "$target"
    mkdir -p "$corpus/$target" "fuzz/found/$target"
    # Five seconds for one input, two gigabytes, and inputs as long as what they stand for may be.
    cargo fuzz run "${options[@]}" "$target" "$corpus/$target" "fuzz/seeds/$target" -- \
        -artifact_prefix="fuzz/found/$target/" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -max_len=4096 \
        -print_final_stats=1 -verbosity=0
    rmdir --ignore-fail-on-non-empty "fuzz/found/$target"
done
