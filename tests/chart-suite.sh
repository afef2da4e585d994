#!/usr/bin/env bash
# Reads the chart with helm, which is built with Go the first time; without either, only the chart's documents are
# checked, and it says so.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/left-out.sh

filter=
if ! command -v go >/dev/null; then
    left_out "what helm makes of the chart" "Go is missing, and helm is built with it"
    filter=documents::
fi
# shellcheck disable=SC2086 # none is no argument
cargo test --locked -p stillwake-e2e --features chart --test chart -- $filter
