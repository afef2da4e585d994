#!/usr/bin/env bash
# Runs the suites that need a real Kubernetes with KEDA: first that clusters come and go without a trace, then, on one
# cluster, all others. Where that can't be done it says why and leaves them out, which is not a pass.
#
# Called by `make cluster-tests`, with the harness's command in TEST_CLUSTER and the number of nodes in NODES.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/left-out.sh

reason=
if [ "$(uname -s)" != Linux ]; then
    reason="it is made of Linux namespaces"
elif [ "$(id -u)" != 0 ]; then
    reason="it needs root, for namespaces and containers"
elif ! command -v go >/dev/null; then
    reason="Go is missing, and Kubernetes and KEDA are built with it"
fi
if [ -n "$reason" ]; then
    left_out "the suites on a real Kubernetes with KEDA" "$reason"
    exit 0
fi

# shellcheck disable=SC2086 # TEST_CLUSTER is a command with arguments
if $TEST_CLUSTER status >/dev/null 2>&1; then
    left_out "the suite of starts and stops" "it needs a machine without a cluster, and one runs (make cluster-down ends it)"
else
    $TEST_CLUSTER build
    trap '$TEST_CLUSTER down' EXIT
    cargo test --locked -p stillwake-test-cluster --features cluster --test starts -- --nocapture
fi
# shellcheck disable=SC2086
$TEST_CLUSTER up --nodes "$NODES"
make --no-print-directory cluster-images
cargo test --locked -p stillwake-e2e --features cluster --no-fail-fast --test 'cluster_*'
