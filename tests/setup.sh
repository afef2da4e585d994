#!/usr/bin/env bash
# Installs what the tests run against on this machine: Python (with venv), nginx, Node.js (with npm) and MariaDB as servers
# and clients, and ip and nft for network namespaces and the rules in them.
# Needs root on Debian or Ubuntu to install what is missing; elsewhere it names what is missing, and the tests say which
# of their parts they leave out.
set -euo pipefail

. "$(dirname "$0")/install.sh"

command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
need nginx nginx-light
need node nodejs
need npm npm
need mariadbd mariadb-server-core
need mariadb mariadb-client-core
need ip iproute2
need nft nftables

install_missing "tests" "What the tests run against is installed: python3, nginx, node, npm, mariadb, ip and nft" \
    "until then the parts that need them are left out, and are not passed."
