#!/usr/bin/env bash
# Installs the real servers and clients that the local suites run against: Python (with venv), nginx and Node.js.
# Needs root on Debian or Ubuntu to install what is missing; elsewhere it names what is missing, and the suites say
# which of their parts they leave out.
set -euo pipefail

missing=()
command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
command -v node >/dev/null || missing+=(nodejs)

if [ ${#missing[@]} -eq 0 ]; then
    echo "Servers for the local suites: python3, nginx and node are installed"
elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing for the local suites: ${missing[*]}"
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
    echo "Missing for the local suites: ${missing[*]}. Install them, or run as root on Debian or Ubuntu;" \
        "until then the parts that need them are left out, and are not passed." >&2
fi
