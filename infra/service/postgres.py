"""PostgreSQL from Debian's package as a private process, with its own data folder and port and without a local socket."""

import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

from .certificates import certificates
from .place import FOLDER, NAME, POSTGRES_PORT, USER, password, write_private
from .process import Process, Trouble


def postgres_bin():
    """Returns the folder of the newest PostgreSQL server on this machine, or None."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    beside_path = shutil.which("initdb")
    if not folders and beside_path:
        folders = [Path(beside_path).resolve().parent]
    return max(folders, key=lambda path: [int(part) for part in re.findall(r"\d+", str(path))], default=None)


def missing():
    """Yields what the machine lacks for it, each with its remedy."""
    if postgres_bin() is None:
        yield "no PostgreSQL server: `apt-get install postgresql`"
    if os.getuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            yield "PostgreSQL refuses to run as root, and there is no user postgres: `adduser --system --group postgres`"


class Postgres:
    """The database. For root it runs as the user `postgres`, because it refuses to run as root."""

    title = f"PostgreSQL on {POSTGRES_PORT}"

    def __init__(self):
        self.folder = FOLDER / "postgres"
        self.process = Process("postgres", self.folder)
        self.user = "postgres" if os.getuid() == 0 else None
        self.ports = [(self.process, POSTGRES_PORT)]

    def run(self, command, **options):
        """Runs a command as the server's user."""
        user = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **user, **options)

    def up(self):
        """Makes the data folder unless it exists, then starts the server without a local socket."""
        data = self.folder / "data"
        self.folder.mkdir(exist_ok=True)
        if self.user:
            shutil.chown(self.folder, self.user)
            if self.run(["test", "-w", self.folder]).returncode:
                remedy = "set SERVICES_DIR to a folder that it can enter, or run this as an ordinary user"
                raise Trouble(f"user {self.user} can't enter {self.folder}: {remedy}")
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)
            words = self.folder / "password"
            write_private(words, password())
            if self.user:
                shutil.chown(words, self.user)
            make = [postgres_bin() / "initdb", "-D", data, "-A", "scram-sha-256", f"--pwfile={words}", "-U", USER]
            done = self.run([*make, "-E", "UTF8", "--no-locale"])
            words.unlink()
            if done.returncode:
                raise Trouble(f"initdb failed:\n{done.stdout}{done.stderr}")
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={POSTGRES_PORT}", *self.tls()]
        flags = [word for setting in settings for word in ("-c", setting)]
        self.process.start([postgres_bin() / "postgres", "-D", data, *flags], user=self.user)

    def tls(self):
        """Returns the settings for TLS on the same port. The server must own its key, so it gets a copy."""
        for name in ("server.crt", "server.key"):
            copy = self.folder / name
            shutil.copyfile(certificates() / name, copy)
            copy.chmod(0o600)
            if self.user:
                shutil.chown(copy, self.user)
        return ["ssl=on", f"ssl_cert_file={self.folder / 'server.crt'}", f"ssl_key_file={self.folder / 'server.key'}"]

    def psql(self, program, *arguments):
        """Runs one of PostgreSQL's client programs as our user."""
        where = ["-h", "127.0.0.1", "-p", str(POSTGRES_PORT), "-U", USER]
        return self.run([postgres_bin() / program, *where, *arguments], env={**os.environ, "PGPASSWORD": password()})

    def answers(self):
        """Whether our user gets an answer from our database, which is made if it is missing."""
        if self.psql("psql", "-d", "postgres", "-c", "SELECT 1").returncode:
            return False
        if self.psql("psql", "-d", NAME, "-c", "SELECT 1").returncode == 0:
            return True
        done = self.psql("createdb", NAME)
        if done.returncode:
            raise Trouble(f"the database can't be made: {done.stderr}")
        return True

    def down(self):
        """Ends it with SIGINT, its fast shutdown: clients are disconnected and nothing committed is lost."""
        return self.process.stop(how=signal.SIGINT)

    def addresses(self):
        """Returns the addresses for tests and programs."""
        url = f"postgres://{USER}:{password()}@127.0.0.1:{POSTGRES_PORT}/{NAME}"
        return {"TEST_POSTGRES_URL": url, "TEST_POSTGRES_TLS_URL": f"{url}?sslmode=verify-full"}
