#!/bin/sh
# Installs the packages of a package-lock.json outside the repository and prints their folder: node.sh FOLDER, where
# FOLDER has the lock file and its package.json. Done once; a folder that is complete is used again.
set -eu

folder="$1"
cache="${STILLWAKE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stillwake}"
# Named after what it is made from, so that a change makes a new one.
made_from=$(cat "$folder/package.json" "$folder/package-lock.json" | cksum | cut -d ' ' -f 1)
installed="$cache/interop-node-$made_from"

# Suites that run at the same time need it at the same time, and only one may make it.
mkdir -p "$cache"
exec 9>"$cache/interop-node.lock"
flock 9

if [ ! -e "$installed/complete" ]; then
    echo "Installing Node.js packages into $installed" >&2
    rm -rf "$installed"
    mkdir "$installed"
    cp "$folder/package.json" "$folder/package-lock.json" "$installed"
    (cd "$installed" && npm ci --ignore-scripts --no-audit --no-fund --silent >&2)
    touch "$installed/complete"
fi
echo "$installed/node_modules"
