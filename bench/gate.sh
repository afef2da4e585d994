#!/usr/bin/env bash
# Counts the sidecar's user instructions per request and fails if they are not what `instructions.json` says, within 2 %.
# RECORD=1 records what they are now. The record is of one architecture, one toolchain and one C library; on another
# architecture, or without valgrind, the gate is left out.
#
# Called by `make bench-gate`, which builds what is counted.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/left-out.sh

bench/setup.sh gate
leave() {
    left_out "bench-gate" "$1"
    exit 0
}
[ "$(uname -sm)" = "Linux x86_64" ] || leave "the record is of x86-64 Linux"
command -v valgrind >/dev/null || leave "valgrind isn't installed"
command -v h2load >/dev/null || leave "h2load isn't installed"
cargo run --quiet --release --locked -p stillwake-bench -- gate ${RECORD:+--record}
