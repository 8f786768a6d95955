#!/usr/bin/env python3
"""Makes what compose.yaml mounts as secrets: passwords, addresses with passwords, a local authority, certificates, keys.

    infra/deploy/make_secrets.py            into infra/deploy/secrets/ (ignored by git); what is there already stays
    infra/deploy/make_secrets.py FOLDER     elsewhere

For one machine. A production has an authority and a store of secrets of its own; the names of the files are the same as
the keys of the Kubernetes secrets. The owners' keys can't be made here: a gateway issues them, see README.md beside it.
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
    """The module that makes certificates; by its path, because it is a command too."""
    found = importlib.util.spec_from_file_location("certificates", HERE.parent / "service" / "certificates.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def write(folder, name, text):
    """Writes a file that isn't there. Containers read it as other users: the folder is what keeps people out."""
    path = folder / name
    if not path.exists():
        with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
            file.write(text)
    return path.read_text(encoding="utf-8")


def main():
    """All of them, each once."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # In hexadecimal, so that an address needs no escapes (and KEDA reads them: it trips over special characters).
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
        print("secrets: nodes.key was no key on P-256 (it is nodes.key.refused now): restart RabbitMQ and the gateways")
    for path in folder.glob("*"):
        # The authority's key is mounted nowhere.
        path.chmod(0o600 if path.name == "ca.key" else 0o644)
    print(f"secrets: in {folder}; whoever reads that folder can be every server here")


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(f"secrets: {error}")
