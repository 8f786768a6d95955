#!/usr/bin/env bash
# Runs a chaos campaign on services and a cluster of its own: another folder and other ports than `make services`, so that
# nobody's work is killed. Arguments go to the campaign: infra/chaos.sh --help.
set -euo pipefail
cd "$(dirname "$0")/.."

export SERVICES_DIR=${SERVICES_DIR:-$PWD/.runtime/chaos/services}
export SERVICES_PORT_SHIFT=${SERVICES_PORT_SHIFT:-200}
export SERVICES_ENV=$SERVICES_DIR/services.env
export PYTHONPATH=infra
exec bash infra/python.sh -m chaos "$@"
