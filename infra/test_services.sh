#!/usr/bin/env bash
# The same suites as on the embedded implementations, on the servers that `make services` started. They are left running.
set -euo pipefail
cd "$(dirname "$0")/.."

set -a
# shellcheck source=/dev/null
. data/services.env
set +a

cargo test --locked --no-fail-fast --package infera-core --features rabbitmq,postgres,s3,conformance \
    --test broker_rabbitmq --test ledger_postgres --test archive_s3
