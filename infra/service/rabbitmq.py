"""RabbitMQ as Debian packages it, but as a private process: own node name, own ports, own name service."""

import shutil
import socket
from pathlib import Path

from .place import AMQP_NODE_PORT, AMQP_PORT, EPMD_PORT, FOLDER, USER, password, write_private
from .process import Process, is_taken, wait_until

RABBITMQ_BIN = Path("/usr/lib/rabbitmq/bin")


def missing():
    """What the machine lacks for it, each with its remedy."""
    if not (RABBITMQ_BIN / "rabbitmq-server").exists() or not shutil.which("epmd"):
        yield "no RabbitMQ: `apt-get install rabbitmq-server`"


class RabbitMq:
    """The broker, and the name service that every Erlang node needs, which would else be left behind."""

    title = f"RabbitMQ on {AMQP_PORT}"

    def __init__(self):
        self.folder = FOLDER / "rabbitmq"
        self.epmd = Process("epmd", self.folder)
        self.process = Process("rabbitmq", self.folder)
        self.ports = [(self.epmd, EPMD_PORT), (self.process, AMQP_PORT), (self.process, AMQP_NODE_PORT)]

    def up(self):
        """Starts both; the configuration is written anew each time."""
        folder = self.folder
        folder.mkdir(exist_ok=True)
        names = {"ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(EPMD_PORT), "HOME": str(folder)}
        if self.epmd.pid() is None:
            self.epmd.start(["epmd"], names)
            wait_until(self.epmd, lambda: is_taken(EPMD_PORT), 10)
        write_private(
            folder / "rabbitmq.conf",
            f"listeners.tcp.default = 127.0.0.1:{AMQP_PORT}\n"
            f"default_user = {USER}\ndefault_pass = {password()}\n"
            "log.console = true\nlog.console.level = warning\nlog.file = false\n"
            "vm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 1GB\n",
        )
        (folder / "advanced.config").write_text("[].\n")
        (folder / "enabled_plugins").write_text("[].\n")
        environment = {
            **names,
            "RABBITMQ_NODENAME": "infera-services@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "own.pid"),
            "RABBITMQ_DIST_PORT": str(AMQP_NODE_PORT),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # The script then becomes the server instead of waiting for it, and the noted pid is the server's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        self.process.start([RABBITMQ_BIN / "rabbitmq-server"], environment)

    def answers(self):
        """Whether it greets a client: its first frame after the protocol's header is a method."""
        try:
            with socket.create_connection(("127.0.0.1", AMQP_PORT), timeout=2) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def down(self):
        """The broker first, then its name service."""
        was_up = self.process.stop()
        return self.epmd.stop() or was_up

    def addresses(self):
        """What tests and programs need."""
        return {"TEST_RABBITMQ_URL": f"amqp://{USER}:{password()}@127.0.0.1:{AMQP_PORT}/%2f"}
