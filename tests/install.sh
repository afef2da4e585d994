# shellcheck shell=bash
# Sourced by what installs programs on this machine: collects what is missing, then installs it as root on Debian or
# Ubuntu, and elsewhere names it.

missing=()

# need PROGRAM PACKAGE
need() {
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || missing+=("$2")
}

# install_missing FOR-WHAT IS-INSTALLED IS-LEFT-OUT
install_missing() {
    if [ ${#missing[@]} -eq 0 ]; then
        echo "$2"
    elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "Installing for the $1: ${missing[*]}"
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
        echo "Missing for the $1: ${missing[*]}. Install them, or run as root on Debian or Ubuntu;" "$3" >&2
    fi
}
