#!/usr/bin/env bash
# Builds the images of the suites on a real Kubernetes, and brings them to its nodes: the release images, under the names
# that the chart has in its values, and the image of the suites' own app.
#
# Called by `make cluster-images`, with the harness's command in TEST_CLUSTER and the release's version in VERSION. Builds
# in the release profile: what ships is smaller and faster by little and takes minutes to link. Cargo builds nothing twice,
# the same programs give the same archive, and nodes take in no layer twice.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
programs="$CARGO_TARGET_DIR/$host/release"
images="$CARGO_TARGET_DIR/images"

# At once, so that what they have in common is compiled once.
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bins --target "$host" \
    -p stillwake -p stillwake-sidecar -p stillwake-e2e
mkdir -p "$images"
cargo build --quiet --locked -p stillwake-images

archives=()
archive() { # FILE CONTAINERFILE NAME
    # The suites read there whether what runs is what was built.
    "$CARGO_TARGET_DIR/debug/stillwake-images" --containerfile "$2" --context "$programs" --name "$3" \
        --output "$images/$1.tar" >"$images/$1.built"
    archives+=("$images/$1.tar")
}
archive e2e tests/images/e2e/Containerfile docker.io/stillwake/stillwake-e2e:test
archive stillwake images/stillwake/Containerfile "docker.io/stillwake/stillwake:$VERSION"
archive stillwake-sidecar images/stillwake-sidecar/Containerfile "docker.io/stillwake/stillwake-sidecar:$VERSION"

# shellcheck disable=SC2086 # TEST_CLUSTER is a command with arguments
$TEST_CLUSTER load "${archives[@]}"
