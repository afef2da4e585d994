#!/bin/sh
# Builds the sidecar as it ships and prints how large it is, on disk and in memory: idle, with TLS connections to two
# aggregators, and after a load. Needs python3 and openssl.
#
#   footprint.sh [SECONDS]    of load, 60 if not given; CONNECTIONS=32 sets how many at once
set -eu

seconds="${1:-60}"
connections="${CONNECTIONS:-32}"
cd "$(dirname "$0")/.."
cache="${STILLWAKE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stillwake}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

host=$(rustc -vV | sed -n 's/^host: //p')
make --silent sidecar >/dev/null
sidecar="$CARGO_TARGET_DIR/$host/sidecar/stillwake-sidecar"
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
scratch=$(mktemp -d)
trap 'kill $app_pid $aggregators_pid $sidecar_pid 2>/dev/null || true; rm -r "$scratch"' EXIT
app_pid=
aggregators_pid=
sidecar_pid=
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/CN=footprint" \
    -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1,IP:127.0.0.2 \
    -keyout "$scratch/key.pem" -out "$scratch/certificate.pem" 2>/dev/null
aggregators_port=$(free_port)
# Two aggregators that listen to what they are told. The file says that both have been told something.
python3 - "$scratch" "$aggregators_port" <<'AGGREGATORS' &
import pathlib, socket, ssl, sys, threading

scratch, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(scratch / "certificate.pem", scratch / "key.pem")
told = threading.Barrier(2, action=(scratch / "told").touch)

def listen(listener):
    connection = context.wrap_socket(listener.accept()[0], server_side=True)
    connection.recv(4096)
    told.wait()
    while connection.recv(4096):
        pass

for address in ("127.0.0.1", "127.0.0.2"):
    threading.Thread(target=listen, args=(socket.create_server((address, port)),)).start()
AGGREGATORS
aggregators_pid=$!
"$app" --port "$app_port" &
app_pid=$!
STILLWAKE_SIDECAR_PORTS="$port:$app_port" STILLWAKE_SIDECAR_ADDRESS=127.0.0.1 \
    STILLWAKE_SIDECAR_AGGREGATORS="127.0.0.1:$aggregators_port,127.0.0.2:$aggregators_port" \
    STILLWAKE_SIDECAR_AGGREGATOR_CA="$(cat "$scratch/certificate.pem")" \
    STILLWAKE_SIDECAR_POD_NAMESPACE=footprint STILLWAKE_SIDECAR_POD_NAME=footprint STILLWAKE_SIDECAR_POD_UID=footprint \
    STILLWAKE_SIDECAR_LOG=error "$sidecar" &
sidecar_pid=$!

memory() {
    awk -v stage="$1" '/^Rss:/ { rss = $2 } /^Pss:/ { pss = $2 } END { printf "%-12s RSS %d KiB, PSS %d KiB\n", stage, rss, pss }' \
        "/proc/$sidecar_pid/smaps_rollup"
}

# Answers once through the sidecar, so that what is measured is a sidecar at work and not one still starting.
deadline=$(($(date +%s) + 30))
until "$load" --target "127.0.0.1:$port" --connections 1 --duration 1ms >/dev/null 2>&1 && [ -e "$scratch/told" ]; do
    [ "$(date +%s)" -lt "$deadline" ] || { echo "the sidecar did not answer, or not report, within 30 s" >&2; exit 1; }
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
