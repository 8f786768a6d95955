#!/usr/bin/env bash
# Everything that must hold, in the order that fails soonest. One build profile serves clippy's checks and one the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step "format"
cargo fmt --all --check

step "clippy, warnings are errors"
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

step "docs, warnings are errors"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

[ "${1:-all}" = lint ] && exit 0

step "tests"
cargo test --workspace --locked --no-fail-fast

step "done"
