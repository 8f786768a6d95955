#!/usr/bin/env bash
# Runs the examples of docs/api.md: infra/examples.sh --binary PROGRAM. The packages of infra/requirements-examples.txt are
# installed into .runtime/venv-examples, again whenever the list changes. JavaScript needs Node 18 or later.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v node >/dev/null || { echo "examples: no Node: apt-get install nodejs" >&2; exit 1; }
venv=.runtime/venv-examples
if ! cmp -s infra/requirements-examples.txt "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement infra/requirements-examples.txt
  cp infra/requirements-examples.txt "$venv/installed.txt"
fi
exec "$venv/bin/python" infra/examples.py "$@"
