#!/usr/bin/env bash
# Has clients that people use with OpenAI's API stream from an `infera up`, unmodified:
#
#   infra/clients.sh --binary PROGRAM [--model smollm2|stub]
#
# The packages of infra/requirements-clients.txt and infra/requirements-litellm.txt, and OpenAI's for Node, are installed into .runtime/
# (some 600 MB; they need Python 3.11 and Node 20), again whenever the lists change. Run by hand: that is too much for CI. The last line
# counts promises; exits with 1 if one is broken.
set -euo pipefail
cd "$(dirname "$0")/.."

# The newest that takes Node 20.
openai_node=6.49.0

command -v node >/dev/null && command -v npm >/dev/null || { echo "clients: no Node or no npm: apt-get install nodejs npm" >&2; exit 1; }
for name in clients litellm; do
  venv=.runtime/venv-$name
  if ! cmp -s "infra/requirements-$name.txt" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "infra/requirements-$name.txt"
    cp "infra/requirements-$name.txt" "$venv/installed.txt"
  fi
done
node=.runtime/clients-node
if [ "$(cat "$node/installed.txt" 2>/dev/null)" != "$openai_node" ]; then
  rm -rf "$node"
  mkdir -p "$node"
  npm install --no-audit --no-fund --no-save --prefix "$node" "openai@$openai_node"
  echo "$openai_node" >"$node/installed.txt"
fi
exec .runtime/venv-clients/bin/python infra/clients.py --node "$node" --litellm .runtime/venv-litellm/bin/python "$@"
