#!/usr/bin/env bash
# The one table of `make bench-cluster`; what its rows mean stands in loadtest/bench/benches/cluster/main.rs.
#
#   infra/bench_cluster.sh         the whole table, at most fifteen minutes; keep the machine quiet meanwhile
#   infra/bench_cluster.sh quick   every row for seconds, to try the harness
#
# Needs the release build of the three programs. Servers of its own, empty at the start and gone at the end, in
# .runtime/bench-cluster/ on ports of their own; logs and latest.json lie there too.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
bench="$PWD/.runtime/bench-cluster"
programs="${CARGO_TARGET_DIR:-target}/release"
export SERVICES_DIR=${SERVICES_DIR:-$bench/services}
# Beside the ports of `make services`.
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

# The benchmark's build must not put other programs in place of those measured, and is no part of what is measured.
cp "$programs"/infera-{gateway,verifier,worker} "$bench/"
cargo bench --locked --quiet --package infera-bench --bench cluster --no-run

# The first process of a service, as its note has it.
pid() { head -n 1 "$SERVICES_DIR/$1/$1.pid"; }

# The addresses of servers that a developer has up are put back.
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

# The bound of the whole measurement, in seconds.
timeout 900 cargo bench --locked --quiet --package infera-bench --bench cluster -- \
    "${arguments[@]}" --programs "$bench" --scratch "$bench/logs" --json "$bench/latest.json" \
    --broker-pid "$(pid rabbitmq)" --database-pid "$(pid postgres)" "$@"
