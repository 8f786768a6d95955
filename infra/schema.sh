#!/usr/bin/env bash
# Makes requests from /openapi.json by schemathesis, good ones and bad ones, and holds the replies against the document:
#
#   infra/schema.sh --binary PROGRAM    against an `infera up` of its own with the stub engine and without limits
#
# infra/schemathesis.toml names what is checked and what isn't, with the reasons. The seed is fixed. The last line counts
# promises; exits with 1 if one is broken.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "${1:-}" = --binary ] || { echo "schema: --binary PROGRAM" >&2; exit 2; }
binary=${2:?a program}
# It takes two minutes on a quiet machine, and ends by itself; what it finds then it finds in each run.
within_s=${WITHIN:-180}

venv=.runtime/venv-schema
if ! cmp -s infra/requirements-schema.txt "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement infra/requirements-schema.txt
  cp infra/requirements-schema.txt "$venv/installed.txt"
fi

folder=$(mktemp -d)
port=$("$venv/bin/python" -c 'import socket; probe = socket.socket(); probe.bind(("127.0.0.1", 0)); print(probe.getsockname()[1])')
"$binary" up --data "$folder/data" --set "listen=127.0.0.1:$port" --set engine.kind=stub \
    --set gateway.requests_per_minute=0 --set gateway.in_flight_max=0 --set gateway.waiting_max=0 \
    --set gateway.signups_per_minute=0 --set gateway.node_checks_per_minute=0 --set gateway.tokens_per_minute=0 \
    --set gateway.looks_per_minute=0 >"$folder/log" 2>&1 &
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
    echo "schema: infera ended or was not ready within a minute; its output is above" >&2
    exit 1
}

# shellcheck source=/dev/null
. "$folder/data/local.env"
export INFERA_URL INFERA_API_KEY
status=0
# `timeout` ends a run that hangs; one that is merely slow ends by its own numbers of examples.
timeout "$((within_s * 2))" "$venv/bin/schemathesis" --config-file infra/schemathesis.toml run "$INFERA_URL/openapi.json" \
    2>&1 | tee "$folder/said" || status=1
# The summary counts the requests; a run without any would prove nothing.
made=$(sed -n 's/^ *\([0-9,]*\) generated.*/\1/p' "$folder/said" | tr -d , | tail -1)
if [ "${made:-0}" -lt 500 ]; then
    echo "schema: only ${made:-0} requests were made"
    status=1
fi
echo "schema: $((1 - status)) promises kept, $status broken"
exit "$status"
