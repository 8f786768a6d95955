"""Two S3 servers, MinIO, and moto over TLS, so that no test depends on the quirks of one."""

import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

from .certificates import certificates
from .place import FOLDER, MINIO_PORT, MOTO_PORT, NAME, ROOT, RUNTIME, USER, output, password
from .process import Process, Trouble

# The last commit of an archived project, so no test may depend on MinIO in particular.
MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
GO_MINIMUM = (1, 24)
MINIO_BINARY = RUNTIME / "bin" / "minio"

REQUIREMENTS = ROOT / "infra" / "requirements-services.txt"
VENV = RUNTIME / "venv-services"


def missing(builds=True):
    """Yields what the machine lacks for them, each with its remedy; `builds`: whether MinIO is built here."""
    if builds and not is_minio_built():
        found = re.search(r"go(\d+)\.(\d+)", output("go", "version") or "")
        if found is None or tuple(map(int, found.groups())) < GO_MINIMUM:
            wanted = ".".join(map(str, GO_MINIMUM))
            yield f"no Go {wanted} or later to build MinIO with: install it from https://go.dev/dl/"
    if output(sys.executable, "-c", "import ensurepip, venv") is None:
        yield "Python has no venv: `apt-get install python3-venv`"


def is_minio_built():
    """Whether the pinned version was built."""
    note = MINIO_BINARY.with_suffix(".version")
    return MINIO_BINARY.exists() and note.exists() and note.read_text() == MINIO


def build_minio():
    """Builds MinIO from its module; Go verifies downloads against the public checksum database."""
    if is_minio_built():
        return
    print("services: building MinIO from its Go module (once; some minutes)", flush=True)
    MINIO_BINARY.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(MINIO_BINARY.parent), "CGO_ENABLED": "0"}
    if subprocess.run(["go", "install", "-trimpath", "-ldflags=-s -w", MINIO], env=environment, check=False).returncode:
        raise Trouble("MinIO could not be built: Go's output is above")
    MINIO_BINARY.with_suffix(".version").write_text(MINIO)


def make_venv():
    """Installs the Python packages of the second S3 server, once for each version of the list of them."""
    note = VENV / "installed.txt"
    if note.exists() and note.read_text() == REQUIREMENTS.read_text():
        return
    print(f"services: installing the Python packages of the second S3 server (once) into {VENV.relative_to(ROOT)}", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    pip = [VENV / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS]
    for command in ([sys.executable, "-m", "venv", VENV], pip):
        if subprocess.run(command, check=False).returncode:
            raise Trouble("the second S3 server could not be installed: pip's output is above")
    shutil.copy(REQUIREMENTS, note)


class S3:
    """An S3 server. The programs that open the archive make the bucket."""

    def __init__(self, name, port):
        self.title = f"{name} on {port}"
        self.port = port
        self.folder = FOLDER / name
        self.process = Process(name, self.folder)
        self.ports = [(self.process, port)]

    def down(self):
        """Ends it. True if it was running."""
        return self.process.stop()

    def url(self, scheme):
        """Returns its URL with the credentials and the bucket."""
        return f"{scheme}://{USER}:{password()}@127.0.0.1:{self.port}/{NAME}"


class Minio(S3):
    """The S3 server of clusters."""

    def __init__(self):
        super().__init__("minio", MINIO_PORT)

    def up(self):
        """Starts it on one folder, without the console and without looking for updates."""
        self.folder.mkdir(exist_ok=True)
        environment = {
            "HOME": str(self.folder),
            "MINIO_ROOT_USER": USER,
            "MINIO_ROOT_PASSWORD": password(),
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        command = [MINIO_BINARY, "server", self.folder / "objects", "--address", f"127.0.0.1:{MINIO_PORT}"]
        self.process.start([*command, "--certs-dir", self.folder / "no-certificates"], environment)

    def answers(self):
        """Whether it says that it is ready."""
        return gets(f"http://127.0.0.1:{MINIO_PORT}/minio/health/ready")

    def addresses(self):
        """Returns the addresses for tests and programs."""
        return {"TEST_S3_URL": self.url("http")}


class Moto(S3):
    """The second S3 server: in memory, over TLS. It accepts every signature."""

    def __init__(self):
        super().__init__("moto", MOTO_PORT)

    def up(self):
        """Starts it with a certificate that our own authority signed."""
        self.folder.mkdir(exist_ok=True)
        folder = certificates()
        tls = ["--ssl-cert", folder / "server.crt", "--ssl-key", folder / "server.key"]
        self.process.start([VENV / "bin" / "moto_server", "-H", "127.0.0.1", "-p", str(MOTO_PORT), *tls])

    def answers(self):
        """Whether it answers over TLS."""
        return gets(f"https://127.0.0.1:{MOTO_PORT}/moto-api/", certificates() / "ca.crt")

    def addresses(self):
        """Returns the addresses for tests and programs."""
        return {"TEST_S3_OTHER_URL": self.url("https"), "TEST_S3_OTHER_CA": certificates() / "ca.crt"}


def gets(url, authority=None):
    """Whether a URL on this machine answers 200. Proxies of the environment are not used."""
    context = ssl.create_default_context(cafile=authority) if authority else None
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False
