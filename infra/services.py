#!/usr/bin/env python3
"""Starts and ends the servers that a cluster uses, on loopback: with Docker Compose where a Docker daemon answers, otherwise
as private processes (SERVICES=processes: always).

    infra/services.py up      start what isn't running, wait until each answers, write data/services.env
    infra/services.py down    end what was started, by the pids that were noted; the data stay
    infra/services.py status  one line for each server

Without containers RabbitMQ and PostgreSQL come from Debian's packages; the packages' own services are not used. RabbitMQ is
that of Debian's stable release (RABBIT=4.0), unpacked into a folder of its own unless the machine has it. RABBIT=3.10 and
4.3 are other releases'; RABBIT=installed is the machine's own, of any version. MinIO is built once from its pinned Go
module; a second S3 server comes from PyPI. Everything is in .runtime/, the data in .runtime/services/ (or $SERVICES_DIR).
All that the machine lacks is listed at once, each with its remedy. Needs Python 3.9, nothing else.
"""

import shutil
import sys
import time

from service import certificates, containers, postgres, rabbitmq, s3
from service.place import ADDRESSES, FOLDER, write_private
from service.process import Trouble, is_taken, wait_until

# The broker takes 8 s on an idle machine and was seen to take 48 s on a busy one.
PATIENCE_S = 180


def all_services():
    """Returns the services in the order in which they are started: the slowest first, so that others start meanwhile."""
    private = [rabbitmq.RabbitMq(), postgres.Postgres(), s3.Minio()]
    return [*([containers.Containers()] if containers.wanted(private) else private), s3.Moto()]


def missing(contained):
    """Yields one line for each thing that the machine lacks: what it is, and what to do."""
    if contained:
        yield from certificates.missing()
        yield from s3.missing(builds=False)
        return
    if not shutil.which("ps"):
        yield "no ps: `apt-get install procps`"
    for technology in (certificates, rabbitmq, postgres, s3):
        yield from technology.missing()


def foreign(services):
    """Yields one line for each port that another process has."""
    for service in services:
        for process, port in service.ports:
            if process.pid() is None and is_taken(port):
                yield f"port {port} of {process.name} is taken by another process: end that process"


def up(services):
    """Starts what isn't running and waits until every service answers."""
    contained = isinstance(services[0], containers.Containers)
    problems = [*missing(contained), *foreign(services)]
    if problems:
        raise Trouble("this machine lacks something:\n" + "\n".join(f"  - {problem}" for problem in problems))
    if not contained:
        s3.build_minio()
    s3.make_venv()
    FOLDER.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for service in services:
        if service.process.pid() is None:
            service.up()
    addresses = dict(certificates.addresses())
    for service in services:
        wait_until(service.process, service.answers, PATIENCE_S)
        addresses.update(service.addresses())
        print(f"services: {service.title} answers ({time.monotonic() - began:.1f} s)", flush=True)
    ADDRESSES.parent.mkdir(mode=0o700, exist_ok=True)  # as private as `infera up` makes it
    write_private(ADDRESSES, "".join(f"{name}={value}\n" for name, value in addresses.items()))
    print(f"services: addresses are in {ADDRESSES}; end them with `make services-down`")


def down(services):
    """Removes the addresses, which are no longer true, then ends the services in reverse order."""
    ADDRESSES.unlink(missing_ok=True)
    for service in reversed(services):
        print(f"services: {service.title} {'ended' if service.down() else 'was not running'}", flush=True)


def status(services):
    """Prints which services run and whether they answer."""
    for service in services:
        pid = service.process.pid()
        state = "not running" if pid is None else f"pid {pid}, {'answers' if service.answers() else 'silent'}"
        print(f"services: {service.title}: {state}")


def main():
    """Runs one command."""
    commands = {"up": up, "down": down, "status": status}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    try:
        commands[sys.argv[1]](all_services())
    except Trouble as trouble:
        sys.exit(f"services: {trouble}")


if __name__ == "__main__":
    main()
