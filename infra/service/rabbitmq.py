"""RabbitMQ as Debian packages it, but as a private process: own node name, own ports, own name service."""

import shutil
import socket
from pathlib import Path

from .certificates import certificates
from .place import AMQP_NODE_PORT, AMQP_PORT, AMQPS_PORT, EPMD_PORT, FOLDER, USER, password, write_private
from .process import Process, is_taken, wait_until

RABBITMQ_BIN = Path("/usr/lib/rabbitmq/bin")


def missing():
    """What the machine lacks for it, each with its remedy."""
    if not (RABBITMQ_BIN / "rabbitmq-server").exists() or not shutil.which("epmd"):
        yield "no RabbitMQ: `apt-get install rabbitmq-server`"


def tls():
    """The lines of a listener with TLS beside the plain one. Clients show a password or a token, no certificate."""
    folder = certificates()
    return (
        f"listeners.ssl.default = 127.0.0.1:{AMQPS_PORT}\n"
        f"ssl_options.cacertfile = {folder / 'ca.crt'}\n"
        f"ssl_options.certfile = {folder / 'server.crt'}\nssl_options.keyfile = {folder / 'server.key'}\n"
        "ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n"
        "ssl_options.versions.1 = tlsv1.3\nssl_options.versions.2 = tlsv1.2\n"
    )


class RabbitMq:
    """The broker, and the name service that every Erlang node needs, which would else be left behind."""

    title = f"RabbitMQ on {AMQP_PORT}"

    def __init__(self):
        self.folder = FOLDER / "rabbitmq"
        self.epmd = Process("epmd", self.folder)
        self.process = Process("rabbitmq", self.folder)
        self.ports = [(self.epmd, EPMD_PORT), (self.process, AMQP_PORT), (self.process, AMQP_NODE_PORT)]
        self.ports.append((self.process, AMQPS_PORT))

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
            f"{tls()}"
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
        return {
            "TEST_RABBITMQ_URL": f"amqp://{USER}:{password()}@127.0.0.1:{AMQP_PORT}/%2f",
            "TEST_RABBITMQ_TLS_URL": f"amqps://{USER}:{password()}@127.0.0.1:{AMQPS_PORT}/%2f",
        }
