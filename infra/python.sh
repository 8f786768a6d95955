#!/usr/bin/env bash
# Runs Python, with these arguments, and with the packages of infra/requirements.txt. They are installed into .runtime/venv,
# again whenever the list changes.
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
