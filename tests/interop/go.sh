#!/bin/sh
# Builds a Go program outside the repository and prints its path: go.sh MODULE PACKAGE, where MODULE is a folder with a
# go.mod and its go.sum, and PACKAGE is one of its own or one of its tools. What is built already is not built again.
set -eu

module="$1"
package="$2"
cache="${STILLWAKE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stillwake}"
program="$cache/interop-go/$(basename "$module")-$(basename "$package")"

# Suites that run at the same time need it at the same time, and only one may make it.
mkdir -p "$cache/interop-go"
exec 9>"$cache/interop-go.lock"
flock 9

cd "$module"
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$program" "$package" >&2
echo "$program"
