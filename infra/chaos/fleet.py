"""The cluster that a campaign breaks: servers and programs on ports and in a folder of their own. Each program reaches the
servers through the proxy.
"""

import shutil
import subprocess

import services as servers
from service import certificates, postgres, rabbitmq, s3
from service.place import ADDRESSES, AMQP_PORT, FOLDER, MINIO_PORT, POSTGRES_PORT, write_private
from service.process import Trouble, wait_until

from .proxy import Proxy
from .schedule import LINKS

PORTS = {"postgres": POSTGRES_PORT, "rabbitmq": AMQP_PORT, "minio": MINIO_PORT}
# RabbitMQ takes 8 s on an idle machine and was seen to take 48 s on a busy one.
START_S = 180
LAST_LINES = 40


class Member:
    """One process of the cluster that may be killed, frozen and started again."""

    def __init__(self, name, process, start, answers):
        self.name, self.process = name, process
        self.start, self.is_useful = start, answers

    def pids(self):
        """Returns its process and then its children. PostgreSQL answers from children, so a freeze must stop them too."""
        pid = self.process.pid()
        return [] if pid is None else [pid, *children(pid)]

    def answers(self):
        """Whether it runs and is ready."""
        return self.process.pid() is not None and self.is_useful()

    def account(self):
        """Returns the end of its log."""
        try:
            end = self.process.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        except FileNotFoundError:
            end = ["(no log)"]
        return f"## {self.name}, pid {self.process.pid()}\n" + "\n".join(end) + "\n"


def children(pid):
    """Returns the processes that this one started, and the processes that those started."""
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    found = [pid]
    for parent in found:
        found += [own for own, its_parent in parents if its_parent == parent]
    return found[1:]


class Fleet:
    """All members. `make_programs(proxy)` starts the programs; it returns them by role, and an account's API key."""

    def __init__(self, make_programs):
        self.services = {"rabbitmq": rabbitmq.RabbitMq(), "postgres": postgres.Postgres(), "minio": s3.Minio()}
        self.members = {
            name: [Member(name, service.process, service.up, service.answers)] for name, service in self.services.items()
        }
        self.make_programs = make_programs
        self.proxy = None
        self.key = None

    def up(self):
        """Starts empty servers, then the proxy, then the programs."""
        self.down()
        problems = [*servers.missing(contained=False), *servers.foreign(self.services.values())]
        if problems:
            raise Trouble("this machine lacks something:\n" + "\n".join(f"  - {problem}" for problem in problems))
        s3.build_minio()
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        for service in self.services.values():
            service.up()
        addresses = dict(certificates.addresses())
        for service in self.services.values():
            wait_until(service.process, service.answers, START_S)
            addresses.update(service.addresses())
        write_private(ADDRESSES, "".join(f"{name}={value}\n" for name, value in addresses.items()))
        self.proxy = Proxy({link: PORTS[link.split("-")[1]] for link in LINKS})
        programs, self.key = self.make_programs(self.proxy)
        self.members.update(programs)
        for member in (one for role in programs.values() for one in role):
            wait_until(member.process, member.answers, START_S)

    def pick(self, component, share):
        """Returns one of a component's members; `share` (0 to 1) selects which."""
        members = self.members[component]
        return members[int(share * len(members))]

    def account(self):
        """Returns the end of every log."""
        return "\n".join(member.account() for members in self.members.values() for member in members)

    def down(self):
        """Ends everything that was started; programs go before servers."""
        programs = [one for role, members in self.members.items() if role not in self.services for one in members]
        for member in programs:
            member.process.stop()
        if self.proxy is not None:
            self.proxy.close()
            self.proxy = None
        for service in reversed(self.services.values()):
            service.down()
