#!/usr/bin/env bash
# Runs a chaos campaign with these arguments; infra/chaos.sh --help lists them. Its services and cluster have another folder
# and other ports than those of `make services`, which it leaves alone.
set -euo pipefail
cd "$(dirname "$0")/.."

export SERVICES_DIR=${SERVICES_DIR:-$PWD/.runtime/chaos/services}
export SERVICES_PORT_SHIFT=${SERVICES_PORT_SHIFT:-200}
export SERVICES_ENV=$SERVICES_DIR/services.env
export PYTHONPATH=infra
exec bash infra/python.sh -m chaos "$@"
