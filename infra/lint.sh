#!/usr/bin/env bash
# Runs one of the programs of infra/requirements-lint.txt: infra/lint.sh ruff check. They are installed into
# .runtime/venv-lint, again whenever the list changes.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.runtime/venv-lint
if ! cmp -s infra/requirements-lint.txt "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement infra/requirements-lint.txt
  cp infra/requirements-lint.txt "$venv/installed.txt"
fi
program=$1
shift
exec "$venv/bin/$program" "$@"
