#!/usr/bin/env bash
# Installs what the tests run against on this machine: Python (with venv), nginx, Node.js (with npm) and MariaDB as servers
# and clients, and ip and nft for network namespaces and the rules in them.
# Needs root on Debian or Ubuntu to install what is missing; elsewhere it names what is missing, and the tests say which
# of their parts they leave out.
set -euo pipefail

missing=()
command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server-core)
command -v mariadb >/dev/null || missing+=(mariadb-client-core)
command -v ip >/dev/null || [ -x /usr/sbin/ip ] || missing+=(iproute2)
command -v nft >/dev/null || [ -x /usr/sbin/nft ] || missing+=(nftables)

if [ ${#missing[@]} -eq 0 ]; then
    echo "What the tests run against is installed: python3, nginx, node, npm, mariadb, ip and nft"
elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing for the tests: ${missing[*]}"
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
    echo "Missing for the tests: ${missing[*]}. Install them, or run as root on Debian or Ubuntu;" \
        "until then the parts that need them are left out, and are not passed." >&2
fi
