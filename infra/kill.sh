#!/usr/bin/env bash
# Runs the kill campaign with these arguments; infra/kill.sh --help lists them.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH=infra exec bash infra/python.sh -m kill "$@"
