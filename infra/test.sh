#!/usr/bin/env bash
# Everything that must hold, in the order that fails soonest. A failed step doesn't stop the others: one run tells all.
# Everything is built in the dev profile and with all features, so that clippy, docs, tests and `make test-services` share
# what they can: the tree is built once.
#
#   infra/test.sh        all of it; the last line sums the checks of tests, smoke and kill campaign
#   infra/test.sh lint   format, clippy, docs
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=infra/suites.sh
. infra/suites.sh

target=${CARGO_TARGET_DIR:-target}
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
failed=()

# Runs one step and remembers when it fails: step NAME COMMAND...
step() {
    local name=$1
    shift
    printf '\n== %s (%ss)\n' "$name" "$SECONDS"
    "$@" || failed+=("$name")
}

documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked --quiet
}

# The workspace's tests; what they say is kept for the sums. A file of tests without a test in it has been switched off
# by a feature or a mistake.
tests() {
    local status=0
    cargo test --workspace --all-features --locked --no-fail-fast 2>&1 | tee -a "$counts" || status=1
    if awk '/Running tests\// { file = $2 } /Running unittests|Doc-tests/ { file = "" }
            /^running 0 tests/ && file { print "no test ran in " file; empty = 1 } END { exit !empty }' "$counts"; then
        status=1
    fi
    return "$status"
}

# Sums what the test binaries and the campaigns said. A check that never spoke is in the failed steps instead.
sums() {
    awk '/^test result:/ { passed += $4; failed += $6 }
         /^(smoke|kill|chaos|load): [0-9]+ promises kept, [0-9]+ broken$/ { passed += $2; failed += $5 }
         END { printf "%d passed, %d failed\n", passed, failed }' "$counts"
}

step "format" cargo fmt --all --check
# shellcheck disable=SC2046 # one word for each argument
step "clippy, warnings are errors" cargo clippy --workspace --all-features --all-targets $(server_suites) --locked --quiet \
    --keep-going -- -D warnings
step "docs, warnings are errors" documentation

if [ "${1:-all}" != lint ]; then
    step "tests" tests
    step "load: its own parts, k6 against a gateway that lies" "${PYTHON:-python3}" -m unittest discover --quiet \
        --start-directory loadtest/tests --top-level-directory loadtest
    step "chaos: its own parts" env PYTHONPATH=infra bash infra/python.sh -m unittest discover --quiet -s infra/chaos -t infra
    step "dashboards and alerts: names" bash infra/python.sh -m unittest discover --quiet -s infra/dashboards
    # The program that the tests built.
    step "smoke: a newcomer's first minutes" bash -o pipefail -c \
        '"${PYTHON:-python3}" infra/smoke.py --binary "$1/debug/infera" | tee -a "$2"' smoke "$target" "$counts"
    step "kill -9: 300 jobs, 3 kills" bash -o pipefail -c \
        'bash infra/kill.sh --binary "$1/debug/infera" --jobs 300 --kills 3 | tee -a "$2"' kill "$target" "$counts"
    step "load: k6's smoke for twenty seconds" bash -o pipefail -c \
        'bash infra/load.sh --binary "$1/debug/infera" | tee -a "$2"' load "$target" "$counts"
    printf '\n== done (%ss)\n' "$SECONDS"
    sums
fi

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
