# `make demo` shows the product; `make test` proves it. `make help` lists the parts.

CACHE := $(or $(STILLWAKE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stillwake)
export STILLWAKE_CACHE := $(CACHE)
export CARGO_TARGET_DIR ?= $(CACHE)/target

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/tools/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
FUZZ_TIME ?= 600
SOAK_REQUESTS ?= 1000000
SOAK_CYCLES ?= 50
BENCH_MEMORY_TIME ?= 1h

# What the test cluster is made of: names of folders in tests/cluster/modules.
KUBERNETES ?= 1.37
KEDA ?= 2.21
NODES ?= 1
export STILLWAKE_TEST_KUBERNETES := $(KUBERNETES)
export STILLWAKE_TEST_KEDA := $(KEDA)
TEST_CLUSTER := cargo run --quiet --locked -p stillwake-test-cluster --

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs deny advisories unit chart local servers cluster cluster-down cluster-status cluster-images cluster-tests \
	soak bench bench-quick bench-memory bench-gate bench-cold bench-burst nightly kubectl sidecar sidecar-image images footprint fuzz rust

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

rust:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer with rustup, then run make again" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: install one (on Debian or Ubuntu: apt-get install gcc)" >&2; exit 1; }

demo: rust ## Build Stillwake and watch an app go 0 -> many -> 0 under load (about a minute after the build)
	@echo "Building stillwake and its sidecar into $(CARGO_TARGET_DIR) (a few minutes the first time)"
	cargo build --release --locked -p stillwake -p stillwake-sidecar
	$(CARGO_TARGET_DIR)/release/stillwake demo

test: lint docs deny unit chart local bench-gate cluster-tests ## Everything that CI runs
	@echo "Passed: lint, docs, deny, unit, local, and what of chart, bench-gate and cluster-tests is not named LEFT OUT above"

lint: rust ## Format and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

docs: rust ## The API documentation builds without a warning
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked --document-private-items

deny: rust $(CARGO_DENY) ## Licences, banned and duplicate crates, sources
	$(CARGO_DENY) --all-features check bans licenses sources

advisories: rust $(CARGO_DENY) ## Known vulnerabilities (needs the RustSec database from the network)
	$(CARGO_DENY) --all-features check advisories

$(CARGO_DENY):
	@echo "Installing cargo-deny $(CARGO_DENY_VERSION) into $(CACHE)/tools (a few minutes, once)"
	cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --root $(CACHE)/tools/cargo-deny-$(CARGO_DENY_VERSION)

unit: rust servers ## Unit, property and single-binary tests
	cargo test --workspace --exclude stillwake-e2e --exclude stillwake-test-cluster --all-features --locked
	cargo test -p stillwake-test-cluster --locked

chart: rust ## The Helm chart: lint, what its schema refuses, what it renders
	tests/chart-suite.sh

servers: ## Install what the tests run against: servers, clients, ip and nft
	tests/setup.sh

local: rust servers ## The suites that drive `stillwake run` end to end
	cargo build --workspace --bins --locked
	cargo test -p stillwake-e2e --locked

cluster: rust ## Start a real Kubernetes with KEDA, from source (root; KUBERNETES=1.37 KEDA=2.21 NODES=1)
	$(TEST_CLUSTER) up --nodes $(NODES)

cluster-down: rust ## End it and remove all it made
	$(TEST_CLUSTER) down

cluster-status: rust ## Say which cluster runs and how to use it
	@$(TEST_CLUSTER) status

kubectl: rust ## Ask the cluster: make kubectl ARGS="get pods -A"
	@$(TEST_CLUSTER) kubectl $(ARGS)

cluster-images: rust ## Build the suites' images, the release's among them, and bring them to the cluster's nodes
	VERSION=$(VERSION) TEST_CLUSTER="$(TEST_CLUSTER)" tests/cluster-images.sh

cluster-tests: rust ## The suites on a real Kubernetes with KEDA: on the one that runs, or on one of their own
	NODES=$(NODES) TEST_CLUSTER="$(TEST_CLUSTER)" tests/cluster-suites.sh

soak: rust servers cluster-images ## A million numbered requests on the running cluster, while all comes and goes (hours; SOAK_REQUESTS, SOAK_CYCLES)
	STILLWAKE_SOAK_REQUESTS=$(SOAK_REQUESTS) STILLWAKE_SOAK_CYCLES=$(SOAK_CYCLES) \
		cargo test --release --locked -p stillwake-e2e --features cluster --test cluster_zero loss -- --nocapture

bench: rust sidecar-image ## The speed and size of all parts beside their peers, into docs/reference/benchmarks.md (root; about 25 minutes)
	bench/setup.sh
	cargo build --release --locked -p stillwake-e2e -p stillwake-bench
	$(CARGO_TARGET_DIR)/release/stillwake-bench --output docs/reference $(BENCH)

bench-quick: rust sidecar-image ## The same in less than five minutes, into the target folder (BENCH="--part NAME" for one part)
	bench/setup.sh
	cargo build --release --locked -p stillwake-e2e -p stillwake-bench
	$(CARGO_TARGET_DIR)/release/stillwake-bench --quick $(BENCH)

bench-memory: rust sidecar ## Whether memory stays where it is under an hour of mixed load (BENCH_MEMORY_TIME=1h); fails if it grows
	bench/setup.sh
	cargo build --release --locked -p stillwake-e2e -p stillwake-bench
	$(CARGO_TARGET_DIR)/release/stillwake-bench --part memory --memory-time $(BENCH_MEMORY_TIME) --output $(CARGO_TARGET_DIR)/benchmarks/memory $(BENCH)

bench-gate: rust sidecar ## Fail if a request costs the sidecar more or fewer instructions than recorded (RECORD=1 records)
	RECORD=$(RECORD) bench/gate.sh

bench-cold: rust ## Cold starts beside the HTTP Add-on's and a bare pod's, on the running cluster or one of its own (STILLWAKE_COLD_STARTS=20)
	TEST_CLUSTER="$(TEST_CLUSTER)" tests/bench-cluster.sh bench_cold

bench-burst: rust ## Load steps beside the HTTP Add-on's and without bursts, as bench-cold (STILLWAKE_BURST_STEPS=3; 30 take 40 minutes)
	TEST_CLUSTER="$(TEST_CLUSTER)" tests/bench-cluster.sh bench_burst

nightly: rust ## What takes longer: all suites at length, the oldest versions that are supported, and twenty starts in a row
	STILLWAKE_STARTS=20 cargo test --locked -p stillwake-test-cluster --features cluster --test starts -- --nocapture
	cargo build --workspace --bins --locked
	STILLWAKE_IDLE=5m cargo test --locked -p stillwake-e2e --test local_counts
	$(MAKE) bench-memory BENCH_MEMORY_TIME=10m
	STILLWAKE_STEADY=5m STILLWAKE_COLD_STARTS=100 STILLWAKE_CROWDS=10 STILLWAKE_TRICKLE=30 STILLWAKE_FAILING=10m \
		STILLWAKE_MANY=200 STILLWAKE_MANY_IDLE=5m STILLWAKE_BURSTS=30 STILLWAKE_BURST_WORKLOADS=200 $(MAKE) cluster-tests NODES=2
	STILLWAKE_TEST_FEATURE_GATES=HPAGeneration=false $(MAKE) cluster-tests
	$(MAKE) cluster-tests KEDA=2.18
	$(MAKE) cluster-tests KUBERNETES=1.29 KEDA=2.18

# Shorter relocations: a tenth of a megabyte that every sidecar would read when it starts. The C library knows them since 2.36.
SHORT_RELOCATIONS := $(shell getconf GNU_LIBC_VERSION 2>/dev/null | awk -F'[ .]' \
	'$$2 > 2 || $$3 >= 36 { print "-C link-arg=-Wl,-z,pack-relative-relocs" }')

sidecar: rust ## The static sidecar binary, as it ships
	RUSTFLAGS="-C target-feature=+crt-static $(SHORT_RELOCATIONS)" \
		cargo build --profile sidecar --locked -p stillwake-sidecar --target $(HOST)
	@ls -l $(CARGO_TARGET_DIR)/$(HOST)/sidecar/stillwake-sidecar

# Writes the image of program $(1), which is built with profile $(2).
define image
	mkdir -p $(CARGO_TARGET_DIR)/images
	cargo run --quiet --locked -p stillwake-images -- --containerfile images/$(1)/Containerfile \
		--context $(CARGO_TARGET_DIR)/$(HOST)/$(2) --name docker.io/stillwake/$(1):$(VERSION) \
		--output $(CARGO_TARGET_DIR)/images/$(1)-$(VERSION).tar
endef

sidecar-image: sidecar ## The sidecar's OCI archive, in the target folder
	$(call image,stillwake-sidecar,sidecar)

images: sidecar-image ## OCI archives of the release images, in the target folder
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile dist --locked -p stillwake --target $(HOST)
	$(call image,stillwake,dist)

footprint: sidecar ## Size and memory of the sidecar, idle and after a minute of load
	tests/footprint.sh

fuzz: rust ## Fuzz the relay's view of HTTP for FUZZ_TIME seconds a target (nightly Rust and cargo-fuzz)
	cd proxy && mkdir -p fuzz/corpus/conversation fuzz/corpus/frames
	cd proxy && CARGO_TARGET_DIR=$(CACHE)/fuzz cargo +nightly fuzz run conversation fuzz/corpus/conversation fuzz/seeds -- -max_total_time=$(FUZZ_TIME) -max_len=4096
	cd proxy && CARGO_TARGET_DIR=$(CACHE)/fuzz cargo +nightly fuzz run frames fuzz/corpus/frames -- -max_total_time=$(FUZZ_TIME) -max_len=1024
