#!/usr/bin/env bash
# Python with what infra's checkers need beside the standard library, in an environment of its own (.runtime/venv), made
# once for each list of them. Arguments go to Python.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.runtime/venv
if ! cmp -s infra/requirements.txt "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement infra/requirements.txt
  cp infra/requirements.txt "$venv/installed.txt"
fi
exec "$venv/bin/python" "$@"
