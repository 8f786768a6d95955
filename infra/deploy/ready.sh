#!/bin/bash
# Exits with 0 if the program in this container is ready: /readyz of its operations port answers 200. Uses bash alone, because
# the images have no HTTP client. For Compose only; Kubernetes sends the request itself.
set -euo pipefail
port=${1:-9100}

exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 3 _ status _ <&3
[ "$status" = 200 ]
