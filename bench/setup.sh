#!/usr/bin/env bash
# Installs what the benchmark measures with and against on this machine: setup.sh [gate]. With `gate` only what the gate
# needs. Needs root on Debian or Ubuntu to install what is missing; elsewhere it names what is missing, and the report
# says which rows it left out. Go, for two of the peers, is not installed by it.
set -euo pipefail

. "$(dirname "$0")/../tests/install.sh"

need valgrind valgrind
need h2load nghttp2-client
if [ "${1:-}" != gate ]; then
    need nginx nginx-light
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing+=(libnginx-mod-stream)
    need haproxy haproxy
    need wrk wrk
    need strace strace
    need taskset util-linux
    need ip iproute2
fi

install_missing "benchmark" "What the benchmark measures with and against is installed" \
    "until then what needs them is left out."
