#!/usr/bin/env python3
"""Makes a certificate authority and certificates that it signs, each once, with the openssl command.

    infra/service/certificates.py FOLDER NAME...   one certificate for each NAME, which is its host name, and loopback

For tests and for trying the deployment out: the authority's key is in the same folder as the certificates, so whoever can
read the folder can impersonate every server. Production uses an authority of its own.
"""

import shutil
import subprocess
import sys
from pathlib import Path

if __package__:
    from .place import FOLDER
    from .process import Trouble

# Ten years: a test that fails because its certificate expired is hard to understand.
DAYS = "3650"
CURVE = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
LOOPBACK = "IP:127.0.0.1,IP:::1,DNS:localhost"


def openssl(folder, command, *arguments):
    """Runs one of openssl's commands in the folder. openssl makes keys readable by their owner only."""
    done = subprocess.run(["openssl", command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {command} failed:\n{done.stderr}")


def make_token_key(folder):
    """Makes `nodes.key`, which signs nodes' tokens, and `nodes.pub`, with which RabbitMQ verifies them, unless they exist.

    A key of another kind, such as an earlier version's RSA, is renamed, because gateways refuse it. True if a pair was made.
    """
    made = subprocess.run(["openssl", "pkey", "-in", folder / "nodes.key", "-noout", "-text"], capture_output=True, check=False)
    if b"NIST CURVE: P-256" in made.stdout and (folder / "nodes.pub").exists():
        return False
    if (folder / "nodes.key").exists():
        (folder / "nodes.key").rename(folder / "nodes.key.refused")
    openssl(folder, "genpkey", *CURVE, "-out", "nodes.key")
    openssl(folder, "pkey", "-in", "nodes.key", "-pubout", "-out", "nodes.new")
    (folder / "nodes.new").rename(folder / "nodes.pub")
    return True


def make_authority(folder, name="ca"):
    """Makes `{name}.crt` and `{name}.key` unless they exist; returns the certificate."""
    if not (folder / f"{name}.crt").exists():
        files = ["-keyout", f"{name}.key", "-out", f"{name}.new"]
        # The name tells authorities apart in messages.
        openssl(folder, "req", "-x509", *KEY, *files, "-days", DAYS, "-subj", f"/CN=Infera test authority {name}")
        (folder / f"{name}.new").rename(folder / f"{name}.crt")
    return folder / f"{name}.crt"


def make_certificate(folder, name, hosts=LOOPBACK):
    """Makes `{name}.crt` for these hosts, signed by `ca`, and `{name}.key`, unless they exist; returns both."""
    make_authority(folder)
    if not (folder / f"{name}.crt").exists():
        extensions = folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={hosts}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
        openssl(folder, "req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN=Infera {name}")
        sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS, "-extfile", f"{name}.ext"]
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *sign, "-out", f"{name}.new")
        # Last, so that an interrupted run leaves nothing that looks complete.
        (folder / f"{name}.new").rename(folder / f"{name}.crt")
    return folder / f"{name}.crt", folder / f"{name}.key"


def missing():
    """Yields what the machine lacks for it, with the remedy."""
    if not shutil.which("openssl"):
        yield "no openssl, which makes the test certificates: `apt-get install openssl`"


def certificates():
    """Makes what the services and their tests need: `ca`, a `server` for loopback, a `stranger` authority; returns the folder."""
    folder = FOLDER / "certificates"
    folder.mkdir(exist_ok=True)
    try:
        make_certificate(folder, "server")
        make_authority(folder, "stranger")
    except RuntimeError as error:
        raise Trouble(str(error)) from error
    return folder


def addresses():
    """Returns the files for tests: the authority of every service, and an authority that signed none of them."""
    return {"TEST_CA_FILE": certificates() / "ca.crt", "TEST_STRANGER_CA_FILE": certificates() / "stranger.crt"}


def main():
    """Makes certificates for named hosts."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        make_certificate(folder, name, f"DNS:{name},{LOOPBACK}")


if __name__ == "__main__":
    main()
