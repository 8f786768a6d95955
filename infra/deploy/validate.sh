#!/usr/bin/env bash
# Checks the deployment without a container engine or a cluster; takes under a minute once its tools are installed.
#
#   infra/deploy/validate.sh                          schemas, references, units, and that every mounted file is made
#   infra/deploy/validate.sh --binaries target/debug  also that our programs accept every setting as it is written
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=.runtime/venv-deploy
requirements=infra/deploy/validation/requirements.txt
if ! cmp -s "$requirements" "$venv/installed.txt"; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv" || { echo "validate: no venv module: apt-get install python3-venv" >&2; exit 1; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi
command -v go >/dev/null || { echo "validate: no Go, which fetches KEDA's definitions: https://go.dev/dl/" >&2; exit 1; }
exec "$venv/bin/python" -m infra.deploy.validation "$@"
