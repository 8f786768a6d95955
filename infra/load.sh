#!/usr/bin/env bash
# Runs k6's smoke for twenty seconds, for CI. The last line counts promises; exits with 1 if one is broken.
#
#   infra/load.sh                     against the cluster or the `infera up` that runs
#   infra/load.sh --binary PROGRAM    against an `infera up` of its own with the stub engine, which it ends
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
# Sixty arrivals, so that every journey and every kind of mistake occurs at least once.
export DURATION=${DURATION:-20}

case "${1:-}" in
"") exec "$python" loadtest/run.py smoke ;;
--binary) binary=${2:?a program} ;;
*)
    echo "load: unknown argument $1: nothing, or --binary PROGRAM" >&2
    exit 2
    ;;
esac

folder=$(mktemp -d)
port=$("$python" -c 'import socket; probe = socket.socket(); probe.bind(("127.0.0.1", 0)); print(probe.getsockname()[1])')
"$binary" up --data "$folder/data" --set "listen=127.0.0.1:$port" --set engine.kind=stub >"$folder/log" 2>&1 &
network=$!
# Ends the program in any case.
trap 'kill -INT "$network" 2>/dev/null || true; wait "$network" || true; rm -rf "$folder"' EXIT

for _ in $(seq 300); do # a development build on a busy machine takes seconds, so a minute is a fault
    grep -q "Ctrl-C ends it" "$folder/log" && break
    kill -0 "$network" 2>/dev/null || break
    sleep 0.2
done
grep -q "Ctrl-C ends it" "$folder/log" || {
    cat "$folder/log" >&2
    echo "load: infera ended or was not ready within a minute; its output is above" >&2
    exit 1
}
TARGET="$folder/data/local.env" "$python" loadtest/run.py smoke
