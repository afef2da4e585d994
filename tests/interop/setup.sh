#!/bin/sh
# Makes a Python environment with what requirements.txt names from PyPI and with KEDA's contract and testing.proto
# compiled by grpcio-tools, outside the repository, and prints its folder. Done once; a folder that is complete is used
# again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
contract="$here/../../proto/proto/externalscaler.proto"
testing="$here/testing.proto"
requirements="$here/requirements.txt"
cache="${STILLWAKE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stillwake}"
# Named after what it is made from, so that a change of any makes a new one.
made_from=$(cat "$requirements" "$contract" "$testing" | cksum | cut -d ' ' -f 1)
folder="$cache/interop-$made_from"

# Suites that run at the same time need it at the same time, and only one may make it.
mkdir -p "$cache"
exec 9>"$cache/interop.lock"
flock 9

if [ ! -e "$folder/complete" ]; then
    command -v python3 >/dev/null || { echo "python3 is missing; install it (apt-get install python3 python3-venv)" >&2; exit 1; }
    echo "Making a Python environment in $folder" >&2
    rm -rf "$folder"
    python3 -m venv "$folder" >&2
    "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2
    mkdir "$folder/generated"
    "$folder/bin/python" -m grpc_tools.protoc --proto_path="$(dirname "$contract")" --proto_path="$here" \
        --python_out="$folder/generated" --grpc_python_out="$folder/generated" \
        externalscaler.proto testing.proto >&2
    touch "$folder/complete"
fi
echo "$folder"
