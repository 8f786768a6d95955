#!/usr/bin/env bash
# Makes the table of `make bench-edge`; loadtest/bench/benches/edge/main.rs explains its rows.
#
#   infra/bench_edge.sh         installs the other gateways (once) and makes the whole table, in some six minutes; keep the
#                               machine idle meanwhile
#   infra/bench_edge.sh quick   every row for a fraction of a second, with the gateways that are installed, to test the harness
#
# Writes to .runtime/bench-edge/ only: the other gateways and the logs of their installation, a copy of the release build,
# scratch folders (removed afterwards), logs/ and latest.json. A gateway that can't be installed is left out of the table, which
# says so. Needs `make build` before it.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
bench="$PWD/.runtime/bench-edge"
infera="${CARGO_TARGET_DIR:-target}/release/infera"
# Other versions may take other settings (loadtest/bench/benches/edge/peers.rs), and figures of different ones can't be compared.
onwards=1.2.0
portkey=1.15.2
litellm=1.106.2

case "${1:-full}" in
full) arguments=() ;;
quick) arguments=(--quick) ;;
*)
    echo "bench-edge: unknown argument $1: nothing, or quick" >&2
    exit 2
    ;;
esac
shift || true

[ -x "$infera" ] || { echo "bench-edge: $infera is missing: run \`make build\`" >&2; exit 1; }
mkdir -p "$bench"

# Installs one gateway, unless this version is there already: peer NAME VERSION COMMAND...
peer() {
    local name=$1 version=$2
    shift 2
    if [ "$(cat "$bench/$name/version" 2>/dev/null)" = "$version" ]; then return; fi
    echo "bench-edge: installing $name $version (once) into ${bench#"$PWD"/}/$name"
    if "$@" >"$bench/$name.log" 2>&1; then
        echo "$version" >"$bench/$name/version"
    else
        rm -rf "${bench:?}/$name"
        echo "bench-edge: $name can't be installed and is left out; ${bench#"$PWD"/}/$name.log says why" >&2
    fi
}

install_onwards() {
    cargo install onwards --version "$onwards" --locked --root "$bench/onwards"
}

install_portkey() {
    mkdir -p "$bench/portkey"
    npm install --no-audit --no-fund --no-save --prefix "$bench/portkey" "@portkey-ai/gateway@$portkey"
}

install_litellm() {
    "$PYTHON" -m venv --clear "$bench/litellm" &&
        "$bench/litellm/bin/pip" install --disable-pip-version-check "litellm[proxy]==$litellm"
}

if [ ${#arguments[@]} -eq 0 ]; then
    peer onwards "$onwards" install_onwards
    peer portkey "$portkey" install_portkey
    peer litellm "$litellm" install_litellm
fi

# Copied, because the benchmark's build could overwrite the program that is measured. It is built before the measurement.
cp "$infera" "$bench/infera"
cargo bench --locked --quiet --package infera-bench --bench edge --no-run

# Removes the scratch folders and logs of an earlier run.
rm -rf "$bench/scratch" "$bench/logs"

# Bounds the whole measurement in seconds.
timeout 900 cargo bench --locked --quiet --package infera-bench --bench edge -- \
    "${arguments[@]}" --infera "$bench/infera" --peers "$bench" --scratch "$bench/scratch" --logs "$bench/logs" \
    --json "$bench/latest.json" "$@"
