#!/usr/bin/env bash
# What must hold on real servers, which `make services` started and this leaves running: the suites of broker, ledger and
# archive, the same tests as on the embedded implementations, and everything else that a manifest marks as theirs.
# Built like `make test`, so that the tree is built once for both. The last line sums the checks.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=infra/suites.sh
. infra/suites.sh
# shellcheck source=infra/steps.sh
. infra/steps.sh

target=${CARGO_TARGET_DIR:-target}
# A suite that ran no test is a suite that was skipped.
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

# The programs that the suites' build made, as processes of their own. Ended again whatever happens; the servers stay.
cluster() {
    trap '"${PYTHON:-python3}" infra/cluster.py down' RETURN
    "${PYTHON:-python3}" infra/cluster.py up --binaries "$target/debug" \
        --traces "http://127.0.0.1:$((8780 + ${SERVICES_PORT_SHIFT:-0}))/v1/traces" || return
    "${PYTHON:-python3}" infra/smoke_cluster.py || return
    bash infra/load.sh
}

# A cluster of its own, beside the servers of this run, wherever these are.
chaos() {
    env -u SERVICES_DIR SERVICES_PORT_SHIFT=$((${SERVICES_PORT_SHIFT:-0} + 200)) bash infra/chaos.sh --size small --binaries "$target/debug"
}

step "suites on real servers" suites
# As `make test` builds them: without the tests, cargo would choose other features and build everything once more.
step "programs" cargo test --workspace --all-features --locked --no-run --quiet
step "a cluster: both gateways agree; k6's smoke for twenty seconds" cluster
step "chaos: 1,000 jobs, one kill of each, six network faults" chaos

sum_up
verdict
