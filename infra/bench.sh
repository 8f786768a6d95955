#!/usr/bin/env bash
# Makes the table of `make bench`; loadtest/bench/benches/standalone/main.rs explains its rows.
#
#   infra/bench.sh         the whole table, in some half an hour, most of which are streams' first tokens; keep the machine idle
#                          meanwhile
#   infra/bench.sh quick   every row for a fraction of a second, to test the harness
#   BASE=path infra/bench.sh full --only unstreamed
#                          CPU time of jobs that don't stream beside that program's, a release build of another commit
#
# Writes to .runtime/bench/ only: the generated 135M model (once), a copy of the release build, scratch folders (removed
# afterwards) and latest.json. Needs `make build` before it.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
bench="$PWD/.runtime/bench"
large="$bench/135m"
venv="$PWD/.runtime/venv-bench"
infera="${CARGO_TARGET_DIR:-target}/release/infera"

case "${1:-full}" in
full) arguments=() ;;
quick) arguments=(--quick) ;;
*)
    echo "bench: unknown argument $1: nothing, or quick" >&2
    exit 2
    ;;
esac
shift || true
if [ -n "${BASE:-}" ]; then
    [ -x "$BASE" ] || { echo "bench: BASE=$BASE is no program" >&2; exit 2; }
    arguments+=(--base "$(realpath "$BASE")")
fi

[ -x "$infera" ] || { echo "bench: $infera is missing: run \`make build\`" >&2; exit 1; }
mkdir -p "$bench"

# Random weights in the shape of a 135M model. Moved into place when complete, so that an interrupted run leaves no part of it.
if [ ! -e "$large/config.json" ]; then
    if [ ! -e "$venv/complete" ]; then
        echo "bench: installing the Python packages that write the 135M model (once) into ${venv#"$PWD"/}"
        "$PYTHON" -m venv --clear "$venv" || { echo "bench: no venv: apt-get install python3-venv" >&2; exit 1; }
        "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement models/requirements.txt
        touch "$venv/complete"
    fi
    echo "bench: generating the 135M model (once) into ${large#"$PWD"/}"
    rm -rf "$large.part"
    mkdir "$large.part"
    "$venv/bin/python" models/train/generate_135m.py "$large.part"
    rm -rf "$large"
    mv "$large.part" "$large"
fi

# The benchmark's own build enables test features and would overwrite the program that is measured.
cp "$infera" "$bench/infera"

# Removes the scratch folders of a run that was killed.
rm -rf "$bench/scratch"

cargo bench --locked --quiet --package infera-bench --bench standalone -- \
    "${arguments[@]}" --infera "$bench/infera" --large "$large" --scratch "$bench/scratch" \
    --json "$bench/latest.json" "$@"

# How many bytes a job takes: no times, so that it may run on a busy machine, also alone.
cargo bench --locked --quiet --package infera-bench --bench sizes
