#!/usr/bin/env bash
# Runs the kill campaign; arguments go to kill.py.
set -euo pipefail
exec bash "$(dirname "$0")/python.sh" infra/kill.py "$@"
