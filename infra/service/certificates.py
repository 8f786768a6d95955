#!/usr/bin/env python3
"""An authority of our own and certificates that it vouches for, made once by the openssl command; no service.

    infra/service/certificates.py FOLDER NAME...   one certificate for each NAME, which is its host name, and loopback

For tests and for trying the deployment out: the authority's key lies beside what it signed, so anybody who can read the
folder can speak for every server. A production has an authority of its own.
"""

import shutil
import subprocess
import sys
from pathlib import Path

if __package__:
    from .place import FOLDER
    from .process import Trouble

# Ten years: a test's certificate that expires is a failure that nobody understands.
DAYS = "3650"
CURVE = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
LOOPBACK = "IP:127.0.0.1,IP:::1,DNS:localhost"


def openssl(folder, command, *arguments):
    """Runs one of openssl's commands in the folder; keys are written for their owner only (openssl's own habit)."""
    done = subprocess.run(["openssl", command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {command} failed:\n{done.stderr}")


def make_token_key(folder):
    """`nodes.key`, which signs nodes' tokens, and `nodes.pub`, its half that RabbitMQ checks them with; once. A key of
    another kind, such as the RSA of before, is put aside: gateways refuse it. True if a new pair was made."""
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
    """`{name}.crt` and `{name}.key`, if they aren't there. The certificate."""
    if not (folder / f"{name}.crt").exists():
        files = ["-keyout", f"{name}.key", "-out", f"{name}.new"]
        # The name tells two authorities apart in a message.
        openssl(folder, "req", "-x509", *KEY, *files, "-days", DAYS, "-subj", f"/CN=Infera test authority {name}")
        (folder / f"{name}.new").rename(folder / f"{name}.crt")
    return folder / f"{name}.crt"


def make_certificate(folder, name, hosts=LOOPBACK):
    """`{name}.crt` for these hosts and its `{name}.key`, if they aren't there; vouched for by `ca`."""
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
    """What the machine lacks for it, with its remedy."""
    if not shutil.which("openssl"):
        yield "no openssl, which makes the test certificates: `apt-get install openssl`"


def certificates():
    """The folder with what the services and their tests need: `ca`, the `server` for loopback, a `stranger` authority."""
    folder = FOLDER / "certificates"
    folder.mkdir(exist_ok=True)
    try:
        make_certificate(folder, "server")
        make_authority(folder, "stranger")
    except RuntimeError as error:
        raise Trouble(str(error)) from error
    return folder


def addresses():
    """What tests need: the authority of every service here, and one that none of them knows."""
    return {"TEST_CA_FILE": certificates() / "ca.crt", "TEST_STRANGER_CA_FILE": certificates() / "stranger.crt"}


def main():
    """Certificates for named hosts."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        make_certificate(folder, name, f"DNS:{name},{LOOPBACK}")


if __name__ == "__main__":
    main()
