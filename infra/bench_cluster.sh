#!/usr/bin/env bash
# Makes the table of `make bench-cluster`; loadtest/bench/benches/cluster/main.rs explains its rows.
#
#   infra/bench_cluster.sh         the whole table, in at most fifteen minutes; keep the machine idle meanwhile
#   infra/bench_cluster.sh quick   every row for some seconds, to test the harness
#
# Needs the release build of the three programs. It starts empty servers of its own in .runtime/bench-cluster/, on ports of
# their own, and removes them at the end; logs and latest.json are written there too.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
bench="$PWD/.runtime/bench-cluster"
programs="${CARGO_TARGET_DIR:-target}/release"
export SERVICES_DIR=${SERVICES_DIR:-$bench/services}
# Other ports than those of `make services`.
export SERVICES_PORT_SHIFT=${SERVICES_PORT_SHIFT:-700}

case "${1:-full}" in
full) arguments=() ;;
quick) arguments=(--quick) ;;
*)
    echo "bench-cluster: unknown argument $1: nothing, or quick" >&2
    exit 2
    ;;
esac
shift || true

for program in infera-gateway infera-verifier infera-worker; do
    [ -x "$programs/$program" ] || { echo "bench-cluster: $programs/$program is missing: run \`make cluster-build\`" >&2; exit 1; }
done
mkdir -p "$bench"

# Copied, because the benchmark's build could overwrite the programs that are measured. It is built before the measurement.
cp "$programs"/infera-{gateway,verifier,worker} "$bench/"
cargo bench --locked --quiet --package infera-bench --bench cluster --no-run

# Prints the pid in a service's note.
pid() { head -n 1 "$SERVICES_DIR/$1/$1.pid"; }

# The addresses of servers that a developer runs are restored at the end.
kept=$(mktemp)
if [ -e data/services.env ]; then cp data/services.env "$kept"; fi
down() {
    "$PYTHON" infra/services.py down && rm -rf "$SERVICES_DIR"
    if [ -s "$kept" ]; then cp "$kept" data/services.env && chmod 600 data/services.env; fi
    rm -f "$kept"
}
trap down EXIT
"$PYTHON" infra/services.py up
set -a
# shellcheck source=/dev/null
. data/services.env
set +a

# Bounds the whole measurement in seconds.
timeout 900 cargo bench --locked --quiet --package infera-bench --bench cluster -- \
    "${arguments[@]}" --programs "$bench" --scratch "$bench/logs" --json "$bench/latest.json" \
    --broker-pid "$(pid rabbitmq)" --database-pid "$(pid postgres)" "$@"
