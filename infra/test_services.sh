#!/usr/bin/env bash
# Runs the checks that need real servers, which `make services` started and which keep running: the suites of broker, ledger
# and archive, the same tests as on the embedded implementations, and every other test target that a manifest leaves to them.
# Uses the build of `make test`. The last line adds up the checks.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=infra/suites.sh
. infra/suites.sh
# shellcheck source=infra/steps.sh
. infra/steps.sh

target=${CARGO_TARGET_DIR:-target}
# Runs the suites. Fails if one runs no test, because it was skipped then.
suites() {
    local arguments
    mapfile -t arguments < <(server_suites | tr ' ' '\n')
    [ "${#arguments[@]}" -gt 0 ] || { echo "no suite was found"; return 1; }
    local said
    said=$(mktemp)
    local status=0
    cargo test --workspace --all-features --locked --no-fail-fast "${arguments[@]}" 2>&1 | tee "$said" || status=1
    ! grep -q '^running 0 tests' "$said" || { echo "a suite ran no test"; status=1; }
    rm -f "$said"
    return "$status"
}

[ -e data/services.env ] || { echo "test-services: no data/services.env: run \`make services\`" >&2; exit 1; }
set -a
# shellcheck source=/dev/null
. data/services.env
set +a

# Tries a cluster of the programs that the suites' build made. They are ended in any case; the servers keep running.
cluster() {
    trap '"${PYTHON:-python3}" infra/cluster.py down' RETURN
    "${PYTHON:-python3}" infra/cluster.py up --binaries "$target/debug" \
        --traces "http://127.0.0.1:$((8780 + ${SERVICES_PORT_SHIFT:-0}))/v1/traces" || return
    "${PYTHON:-python3}" infra/smoke_cluster.py || return
    bash infra/load.sh
}

# Runs the campaign on a cluster of its own, with other ports than those of this run's servers.
chaos() {
    env -u SERVICES_DIR SERVICES_PORT_SHIFT=$((${SERVICES_PORT_SHIFT:-0} + 200)) bash infra/chaos.sh --size small --binaries "$target/debug"
}

step "suites on real servers" suites
# Built as `make test` does: without the tests cargo would choose other features and build everything again.
step "programs" cargo test --workspace --all-features --locked --no-run --quiet
step "a cluster: both gateways agree; k6's smoke for twenty seconds" cluster
step "chaos: 1,000 jobs, one kill of each, six network faults" chaos

sum_up
verdict
