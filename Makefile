# Everything that a newcomer, a developer or CI types. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Outside the checkout, so that a clean checkout builds on what the last one built.
SERIN_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/serin
export SERIN_CACHE
export CARGO_TARGET_DIR ?= $(SERIN_CACHE)/target

.PHONY: help
help: ## List what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: demo
demo: cluster-up install ## Roll out a good version and a bad one on a real cluster, with live output
	source e2e/cluster/env.sh && cargo run --quiet --package serin-e2e --bin demo

.PHONY: test
test: lint unit simulate e2e ## All that CI checks

.PHONY: lint
lint: ## Format, clippy, documentation, charts, scripts
	e2e/lint.sh

# The same cases every time, so that a red run is about the change. To search further: PROPTEST_CASES=5000 cargo test.
unit: export PROPTEST_RNG_SEED ?= 20261121
.PHONY: unit
unit: ## Tests that need no cluster
	cargo test --workspace --locked

# SEEDS says how many, FROM the first of them, LIMIT for how many seconds at most; SEED=… plays one and tells what happens.
# The same seeds every time, so that a red run is about the change; more of them find more.
SEEDS ?= 1000
FROM ?= 0
LIMIT ?= 300
.PHONY: simulate
simulate: ## Rollouts with everything going wrong, in virtual time
	cargo run --quiet --release --locked --package serin-simulation -- \
		$(if $(SEED),--seed $(SEED),--from $(FROM) --seeds $(SEEDS) --seconds $(LIMIT))

# FLAGS go to the benchmark, like FLAGS="--canaries 5000 --interval 60s"; bench/run.sh load --help lists them.
.PHONY: bench
bench: ## A thousand canaries at rest and rolled out at once, on a bare API server
	bench/run.sh load $(FLAGS)

.PHONY: bench-retreat
bench-retreat: ## How long a retreat takes when everything else goes wrong
	bench/run.sh retreat --canaries 500 $(FLAGS)

.PHONY: bench-smoke
bench-smoke: ## The benchmark with five canaries: whether its claims hold, and not how fast
	bench/run.sh load --canaries 5 --interval 1s --idle 10s --pod-start 100ms --serin-flag=--drain-delay=1s $(FLAGS)

SOAK_MINUTES ?= 60
SOAK_CANARIES ?= 40
.PHONY: soak
soak: ## Rollouts without end, with faults; fails when something grows
	bench/run.sh soak --time $(SOAK_MINUTES)m --canaries $(SOAK_CANARIES) --interval 1s --steps 3 --step-weight 20 --pod-start 100ms \
	  --serin-flag=--drain-delay=1s --serin-flag=--route-grace-period=2s $(FLAGS)

# SECONDS_EACH says how long each of the targets runs; TARGET=… runs one of them.
SECONDS_EACH ?= 60
.PHONY: fuzz
fuzz: export SECONDS_EACH := $(SECONDS_EACH)
fuzz: ## Random bytes for whatever reads what strangers write
	fuzz/run.sh $(TARGET)

.PHONY: e2e
e2e: cluster-up install ## The scenarios on the real cluster
	e2e/run.sh

.PHONY: generate
generate: ## Write crds/ and the CRD chart from the types
	cargo run --quiet --bin serin -- crds --directory crds
	mkdir -p charts/serin-crds/files
	cp crds/*.yaml charts/serin-crds/files/

.PHONY: cluster-up
cluster-up: ## Bring up a real Kubernetes, Traefik and Prometheus on this machine
	e2e/cluster/up.sh

.PHONY: cluster-down
cluster-down: ## Stop them; what was built stays cached
	e2e/cluster/down.sh

.PHONY: install
install: ## Build Serin and install it on the cluster by its charts
	e2e/install.sh
