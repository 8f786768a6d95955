#!/usr/bin/env bash
# One of the checkers of infra/requirements-lint.txt, from an environment of their own (.runtime/venv-lint), made once for
# each list of them: infra/lint.sh ruff check
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
