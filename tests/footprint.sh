#!/bin/sh
# Builds the sidecar as it ships and prints how large it is, on disk and in memory: idle, and after a load.
#
#   footprint.sh [SECONDS]    of load, 60 if not given; CONNECTIONS=32 sets how many at once
set -eu

seconds="${1:-60}"
connections="${CONNECTIONS:-32}"
cd "$(dirname "$0")/.."
cache="${STILLWAKE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stillwake}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --quiet --profile dist -p stillwake-sidecar --target "$host"
sidecar="$CARGO_TARGET_DIR/$host/dist/stillwake-sidecar"
cargo build --quiet --release -p stillwake-e2e
app="$CARGO_TARGET_DIR/release/stillwake-e2e-app"
load="$CARGO_TARGET_DIR/release/stillwake-e2e-load"

echo "binary       $(stat -c %s "$sidecar") bytes"
# glibc's static binaries have no interpreter; ldd says so on stderr or stdout depending on its version.
if LC_ALL=C ldd "$sidecar" 2>&1 | grep -q -e 'statically linked' -e 'not a dynamic executable'; then
    echo "linked       static"
else
    echo "$sidecar is not static:" >&2
    ldd "$sidecar" >&2
    exit 1
fi

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
app_port=$(free_port)
port=$(free_port)
trap 'kill $app_pid $sidecar_pid 2>/dev/null || true' EXIT
app_pid=
sidecar_pid=
"$app" --port "$app_port" &
app_pid=$!
STILLWAKE_SIDECAR_PORTS="$port:$app_port" STILLWAKE_SIDECAR_ADDRESS=127.0.0.1 STILLWAKE_SIDECAR_AGGREGATORS= \
    STILLWAKE_SIDECAR_POD_NAMESPACE=footprint STILLWAKE_SIDECAR_POD_NAME=footprint STILLWAKE_SIDECAR_POD_UID=footprint \
    STILLWAKE_SIDECAR_LOG=warn "$sidecar" &
sidecar_pid=$!

memory() {
    awk -v stage="$1" '/^Rss:/ { rss = $2 } /^Pss:/ { pss = $2 } END { printf "%-12s RSS %d KiB, PSS %d KiB\n", stage, rss, pss }' \
        "/proc/$sidecar_pid/smaps_rollup"
}

# Answers once through the sidecar, so that what is measured is a sidecar at work and not one still starting.
deadline=$(($(date +%s) + 30))
until "$load" --target "127.0.0.1:$port" --connections 1 --duration 1ms >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$deadline" ] || { echo "the sidecar did not answer within 30 s" >&2; exit 1; }
    sleep 0.1
done
memory idle

# CPU ticks that a process has used so far.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
microseconds() {
    awk -v ticks="$1" -v hertz="$(getconf CLK_TCK)" -v answered="$2" \
        'BEGIN { printf "%.1f", ticks / hertz * 1e6 / answered }'
}
# Loads $1 for $3 seconds and prints a row of the table under the name $2. The control has no sidecar in its way.
measure() {
    app_before=$(ticks "$app_pid")
    sidecar_before=$(ticks "$sidecar_pid")
    result=$("$load" --target "$1" --connections "$connections" --duration "${3}s")
    answered=${result%% *}
    app_cost=$(microseconds $(($(ticks "$app_pid") - app_before)) "$answered")
    sidecar_cost=$(microseconds $(($(ticks "$sidecar_pid") - sidecar_before)) "$answered")
    rate=$(echo "$result" | sed 's/.* answered, \([0-9]*\) per second.*/\1/')
    printf '%-12s %8s %12s %14s %18s\n' "$2" "$3 s" "$rate" "$app_cost µs" "$sidecar_cost µs"
}
echo "load         $connections keep-alive connections; CPU per request, user and system:"
printf '%-12s %8s %12s %13s %17s\n' "" time "requests/s" app sidecar
measure "127.0.0.1:$app_port" "no sidecar" $(((seconds + 3) / 4))
measure "127.0.0.1:$port" "sidecar" "$seconds"
memory "after load"
