#!/usr/bin/env bash
# Measures Stillwake beside KEDA's HTTP Add-on, in turn: on the cluster that runs, or on one of its own, which ends with it.
# The Add-on is built and installed for that, and removed again. The argument is the benchmark, a test of stillwake-e2e.
#
# Called by `make bench-cold` and `make bench-burst`, with the harness's command in TEST_CLUSTER.
set -euo pipefail
cd "$(dirname "$0")/.."

give_up() {
    echo "this benchmark needs a Kubernetes of its own: $1" >&2
    exit 1
}
[ "$(uname -s)" = Linux ] || give_up "that is made of Linux namespaces"
[ "$(id -u)" = 0 ] || give_up "run it as root, for namespaces and containers"
command -v go >/dev/null || give_up "install Go, as Kubernetes, KEDA and the HTTP Add-on are built with it"

# shellcheck disable=SC2086 # TEST_CLUSTER is a command with arguments
if $TEST_CLUSTER status >/dev/null 2>&1; then
    trap '$TEST_CLUSTER http-add-on --remove' EXIT
else
    trap '$TEST_CLUSTER down' EXIT
    $TEST_CLUSTER up
fi
make --no-print-directory cluster-images
# shellcheck disable=SC2086
$TEST_CLUSTER http-add-on
cargo test --release --locked -p stillwake-e2e --features cluster --test "$1" beside_the_http_add_ons -- --nocapture
