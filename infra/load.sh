#!/usr/bin/env bash
# Runs k6's smoke for twenty seconds and that of streams for ten, for CI. The last line of each counts promises; exits with 1 if one is
# broken.
#
#   infra/load.sh                     against the cluster or the `infera up` that runs
#   infra/load.sh --binary PROGRAM    against an `infera up` of its own with the stub engine, which it ends
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}

# Makes both runs, the second whatever came of the first.
both() {
    local status=0
    # Sixty arrivals, so that every journey and every kind of mistake occurs at least once.
    DURATION=${DURATION:-20} "$python" loadtest/run.py smoke || status=$?
    # Forty, so that each release meets each kind of stream.
    RATE=${RATE:-4} DURATION=${STREAMS_DURATION:-10} "$python" loadtest/run.py stream-smoke || status=$?
    return "$status"
}

case "${1:-}" in
"")
    both
    exit
    ;;
--binary) binary=${2:?a program} ;;
*)
    echo "load: unknown argument $1: nothing, or --binary PROGRAM" >&2
    exit 2
    ;;
esac

folder=$(mktemp -d)
port=$("$python" -c 'import socket; probe = socket.socket(); probe.bind(("127.0.0.1", 0)); print(probe.getsockname()[1])')
# A token takes 20 ms, so that an answer is longer than one tick of its stream, and a stream half a second.
"$binary" up --data "$folder/data" --set "listen=127.0.0.1:$port" --set engine.kind=stub --set engine.stub.prefill_us=20000 \
    --set engine.stub.decode_us=20000 >"$folder/log" 2>&1 &
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
export TARGET="$folder/data/local.env"
both
