#!/usr/bin/env bash
# Installs what the benchmark measures with and against on this machine: setup.sh [gate]. With `gate` only what the gate
# needs. Needs root on Debian or Ubuntu to install what is missing; elsewhere it names what is missing, and the report
# says which rows it left out. Go, for two of the peers, is not installed by it.
set -euo pipefail

missing=()
need() {
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || missing+=("$2")
}
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

if [ ${#missing[@]} -eq 0 ]; then
    echo "What the benchmark measures with and against is installed"
elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing for the benchmark: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # A policy that denies starts keeps the packages from starting servers of their own on this machine.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "Missing for the benchmark: ${missing[*]}. Install them, or run as root on Debian or Ubuntu;" \
        "until then what needs them is left out." >&2
fi
