#!/usr/bin/env bash
# Runs the kill campaign; arguments go to it: infra/kill.sh --help.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH=infra exec bash infra/python.sh -m kill "$@"
