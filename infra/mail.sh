#!/usr/bin/env bash
# Tries mail: infra/mail.sh --binary PROGRAM. The packages of infra/requirements-mail.txt are installed into .runtime/venv-mail,
# again whenever the list changes. Certificates are made by openssl.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.runtime/venv-mail
if ! cmp -s infra/requirements-mail.txt "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement infra/requirements-mail.txt
  cp infra/requirements-mail.txt "$venv/installed.txt"
fi
exec "$venv/bin/python" infra/mail.py "$@"
