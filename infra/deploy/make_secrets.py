#!/usr/bin/env python3
"""Makes the files that compose.yaml mounts as secrets: passwords, URLs with passwords, an authority, certificates, keys.

    infra/deploy/make_secrets.py            into infra/deploy/secrets/ (ignored by git); existing files are kept
    infra/deploy/make_secrets.py FOLDER     elsewhere

For one machine; production has an authority and a secret store of its own. The files have the names of the keys of the
Kubernetes secrets. The owners' API keys can't be made here, because a gateway issues them: see README.md in this folder.
"""

import importlib.util
import os
import secrets
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOSTS = ("gateway", "postgres", "rabbitmq", "minio")
OWNERS = ("a", "b", "c")


def certificates():
    """Loads the module that makes certificates, by its path, because it is in no package on the path."""
    found = importlib.util.spec_from_file_location("certificates", HERE.parent / "service" / "certificates.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def write(folder, name, text):
    """Writes a file unless it exists; returns its text. Containers read it as other users, so the folder keeps people out."""
    path = folder / name
    if not path.exists():
        with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
            file.write(text)
    return path.read_text(encoding="utf-8")


def main():
    """Makes each file that is missing."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # In hexadecimal, so that a URL needs no escapes; KEDA can't read them.
    passwords = {host: write(folder, f"{host}-password", secrets.token_hex(16)) for host in HOSTS[1:]}
    database = f"postgres://infera:{passwords['postgres']}@postgres:5432/infera?sslmode=verify-full"
    write(folder, "ledger-url", database)
    write(folder, "broker-url", f"amqps://infera:{passwords['rabbitmq']}@rabbitmq:5671/%2F")
    write(folder, "management-url", f"https://infera:{passwords['rabbitmq']}@rabbitmq:15671")
    user = f"default_user = infera\ndefault_pass = {passwords['rabbitmq']}\ndefault_user_tags.administrator = true\n"
    write(folder, "rabbitmq-user.conf", user)
    for owner in OWNERS:
        write(folder, f"owner-{owner}-node-secret", secrets.token_hex(16))
    for host in HOSTS:
        certificates().make_certificate(folder, host, f"DNS:{host},{certificates().LOOPBACK}")
    had_key = (folder / "nodes.key").exists()
    if certificates().make_token_key(folder) and had_key:
        print("secrets: nodes.key was not a P-256 key and is now nodes.key.refused: restart RabbitMQ and the gateways")
    for path in folder.glob("*"):
        # No container mounts the authority's key.
        path.chmod(0o600 if path.name == "ca.key" else 0o644)
    print(f"secrets: in {folder}; whoever can read that folder can impersonate every server")


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(f"secrets: {error}")
