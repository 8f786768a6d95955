"""RabbitMQ from Debian's package as a private process, with its own node name, ports and name service.

RABBIT chooses the version: a series of a Debian release, or `installed`, which is the machine's own of any version.
"""

import base64
import json
import os
import shutil
import socket
import urllib.error
import urllib.request
from pathlib import Path

from . import debian
from .certificates import certificates, make_token_key
from .place import AMQP_NODE_PORT, AMQP_PORT, AMQPS_PORT, EPMD_PORT, FOLDER, MANAGEMENT_PORT, METRICS_PORT, USER, password, write_private
from .process import Process, Trouble, is_taken, wait_until

RABBITMQ = Path("/usr/lib/rabbitmq")
# That of Debian's stable release. 3.10 is out of support, and 4.3 is in Debian's testing.
SERIES = "4.0"
PLUGINS = ["rabbitmq_auth_backend_oauth2", "rabbitmq_management", "rabbitmq_prometheus"]

# The key id in the header of a node's token, which gateways write so that keys can be rotated.
KEY_ID = "nodes"
# `impersonator`: tests publish as nodes, and RabbitMQ otherwise refuses a message whose user id is not its sender's.
TAGS = "administrator,impersonator"


def missing():
    """Yields what the machine lacks for it, each with its remedy."""
    asked = wanted()
    if asked != "installed" and asked not in debian.RELEASES:
        yield f"no RabbitMQ {asked}: RABBIT is one of {', '.join(debian.RELEASES)}, installed"
    elif is_own(asked):
        if own_series() is None or not shutil.which("epmd"):
            yield "no RabbitMQ: `apt-get install rabbitmq-server`"
    else:
        yield from debian.missing(asked)


def wanted():
    """Returns the RabbitMQ that is asked for."""
    return os.environ.get("RABBIT") or SERIES


def own_series():
    """Returns the series of the machine's own RabbitMQ, if there is one."""
    found = next((RABBITMQ / "lib").glob("rabbitmq_server-*"), None)
    return found and ".".join(found.name.partition("-")[2].split(".")[:2])


def is_own(asked):
    """Whether the machine's own RabbitMQ is the one that is asked for."""
    return asked in ("installed", own_series())


def command(name, *words):
    """Returns the command that runs one of RabbitMQ's programs, of the version that is asked for."""
    path = "epmd" if name == "epmd" else RABBITMQ / "bin" / name
    return [path, *words] if is_own(wanted()) else debian.inside(wanted(), [path, *words])


def token_key():
    """Returns the private key with which gateways sign nodes' tokens, and the public key for RabbitMQ; makes them once."""
    folder = FOLDER / "tokens"
    folder.mkdir(mode=0o700, exist_ok=True)
    make_token_key(folder)
    return folder / "nodes.key", folder / "nodes.pub"


def access():
    """Returns the settings for logins: nodes by a token that our key signed, the operator by password.

    One signature algorithm is allowed, so that the public key can't be used as a shared secret. Strangers' messages and
    channels are bounded.
    """
    return (
        "auth_backends.1 = rabbit_auth_backend_internal\nauth_backends.2 = rabbit_auth_backend_oauth2\n"
        f"auth_oauth2.resource_server_id = rabbitmq\nauth_oauth2.default_key = {KEY_ID}\n"
        f"auth_oauth2.signing_keys.{KEY_ID} = {token_key()[1]}\nauth_oauth2.algorithms.1 = ES256\n"
        "max_message_size = 1048576\nchannel_max = 256\n"
        f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {MANAGEMENT_PORT}\n"
        # Rates are only for the management pages; connections are listed without them.
        "management.rates_mode = none\n"
        f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {METRICS_PORT}\n"
    )


def connections_listed(series):
    """Returns the setting without which a later release no longer lists connections, which the warden needs. 3.x refuses it."""
    is_known = not series.startswith("3.")
    return "deprecated_features.permit.management_metrics_collection = true\n" if is_known else ""


def tls():
    """Returns the settings of a TLS listener beside the plain one. Clients show a password or a token, no certificate."""
    folder = certificates()
    return (
        f"listeners.ssl.default = 127.0.0.1:{AMQPS_PORT}\n"
        f"ssl_options.cacertfile = {folder / 'ca.crt'}\n"
        f"ssl_options.certfile = {folder / 'server.crt'}\nssl_options.keyfile = {folder / 'server.key'}\n"
        "ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n"
        "ssl_options.versions.1 = tlsv1.3\nssl_options.versions.2 = tlsv1.2\n"
    )


def configuration(series):
    """Returns the whole configuration file for a RabbitMQ of this series."""
    return (
        f"listeners.tcp.default = 127.0.0.1:{AMQP_PORT}\n"
        f"default_user = {USER}\ndefault_pass = {password()}\n"
        f"{tls()}"
        f"{access()}{connections_listed(series)}"
        "log.console = true\nlog.console.level = warning\nlog.file = false\n"
        "vm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 1GB\n"
    )


class RabbitMq:
    """The broker, and its Erlang name service, which would otherwise be left running."""

    title = f"RabbitMQ on {AMQP_PORT}"

    def __init__(self):
        self.folder = FOLDER / "rabbitmq"
        self.epmd = Process("epmd", self.folder)
        self.process = Process("rabbitmq", self.folder)
        self.ports = [(self.epmd, EPMD_PORT), (self.process, AMQP_PORT), (self.process, AMQP_NODE_PORT)]
        self.ports.append((self.process, AMQPS_PORT))
        self.ports += [(self.process, MANAGEMENT_PORT), (self.process, METRICS_PORT)]

    def up(self):
        """Starts both; the configuration is written each time."""
        folder = self.folder
        folder.mkdir(exist_ok=True)
        series = own_series() if is_own(wanted()) else wanted()
        if not is_own(wanted()):
            debian.unpack(series)
        (folder / "series").write_text(series)
        names = {"ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(EPMD_PORT), "HOME": str(folder)}
        if self.epmd.pid() is None:
            self.epmd.start(command("epmd"), names)
            wait_until(self.epmd, lambda: is_taken(EPMD_PORT), 10)
        write_private(folder / "rabbitmq.conf", configuration(series))
        (folder / "advanced.config").write_text("[].\n")
        (folder / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n")
        environment = {
            **names,
            "RABBITMQ_NODENAME": "infera-services@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / f"data-{series}"),  # no series reads another's
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "own.pid"),
            "RABBITMQ_DIST_PORT": str(AMQP_NODE_PORT),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # Makes the script exec the server instead of waiting for it, so that the noted pid is the server's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        self.process.start(command("rabbitmq-server"), environment)

    def answers(self):
        """Whether clients are greeted and the operator's user has its tags, which are set on the way. Tags in the
        configuration would count for a new server only."""
        return self.is_as_asked() and self.greets() and self.sets_tags()

    def is_as_asked(self):
        """Whether the version that runs is the one that is asked for; Trouble if it isn't."""
        runs, asked = (self.folder / "series").read_text(), own_series() if is_own(wanted()) else wanted()
        if runs != asked:
            raise Trouble(f"RabbitMQ {runs} runs, and {asked} is asked for: end the former first (`make services-down`)")
        return True

    def sets_tags(self):
        """Sets the tags of the operator's user; whether the management plugin accepted them."""
        identity = base64.b64encode(f"{USER}:{password()}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{MANAGEMENT_PORT}/api/users/{USER}",
            data=json.dumps({"password": password(), "tags": TAGS}).encode(),
            headers={"Authorization": f"Basic {identity}", "Content-Type": "application/json"},
            method="PUT",
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
                return answer.status in (201, 204)
        except (OSError, urllib.error.URLError):
            return False

    def greets(self):
        """Whether it answers the protocol's header with a method frame, as it greets a client."""
        try:
            with socket.create_connection(("127.0.0.1", AMQP_PORT), timeout=2) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def down(self):
        """Ends the broker, then its name service. True if one of them was running."""
        was_up = self.process.stop()
        return self.epmd.stop() or was_up

    def addresses(self):
        """Returns the addresses for tests and programs."""
        return {
            "TEST_RABBITMQ_URL": f"amqp://{USER}:{password()}@127.0.0.1:{AMQP_PORT}/%2f",
            "TEST_RABBITMQ_TLS_URL": f"amqps://{USER}:{password()}@127.0.0.1:{AMQPS_PORT}/%2f",
            "TEST_RABBITMQ_MANAGEMENT_URL": f"http://{USER}:{password()}@127.0.0.1:{MANAGEMENT_PORT}",
            "TEST_RABBITMQ_METRICS_URL": f"http://127.0.0.1:{METRICS_PORT}/metrics",
            "TEST_TOKEN_KEY": token_key()[0],
        }
