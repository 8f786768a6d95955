#!/usr/bin/env python3
"""Runs a RabbitMQ for one test, which may kill and freeze it, in a folder and on ports of its own.

    SERVICES_DIR=FOLDER SERVICES_PORT_SHIFT=N infra/service/alone.py up        start it, wait, print its address
    ...                                       infra/service/alone.py crash     kill -9, unless it has ended
    ...                                       infra/service/alone.py freeze    SIGSTOP, and `thaw` for SIGCONT
    ...                                       infra/service/alone.py control WORDS...   rabbitmqctl
    ...                                       infra/service/alone.py down      end it
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# After the path is set: this file is run as a program, so its package is not on the path.
from service.place import AMQP_PORT, EPMD_PORT, FOLDER, SHIFT  # noqa: E402
from service.process import Trouble, is_taken, wait_until  # noqa: E402
from service.rabbitmq import RabbitMq, command, missing  # noqa: E402

# RabbitMQ starts in 8 s on an idle machine and in 20 s after a kill; 48 s were seen on a busy machine.
PATIENCE_S = 120


def up(broker):
    """Starts it unless it runs already."""
    problems = list(missing())
    if problems:
        raise Trouble("; ".join(problems))
    if broker.process.pid() is None:
        if is_taken(AMQP_PORT):
            raise Trouble(f"port {AMQP_PORT} is taken by another process: end that process")
        FOLDER.mkdir(parents=True, exist_ok=True)
        broker.up()
    wait_until(broker.process, broker.answers, PATIENCE_S)
    print(broker.addresses()["TEST_RABBITMQ_URL"])


def send(broker, number):
    """Sends one signal to the server."""
    pid = broker.process.pid()
    if pid is None:
        raise Trouble("it is not running: start it with `up`")
    os.kill(pid, number)


def crash(broker):
    """Kills it. Unlike in a failure of the machine, what it wrote is on the disk."""
    broker.process.stop(how=signal.SIGKILL)


def control(broker, words):
    """Runs rabbitmqctl on this broker."""
    names = {"HOME": str(broker.folder), "ERL_EPMD_PORT": str(EPMD_PORT), "RABBITMQ_CONF_ENV_FILE": "/dev/null"}
    asking = command("rabbitmqctl", "-n", "infera-services@localhost", *words)
    done = subprocess.run(asking, env={**os.environ, **names}, capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode:
        raise Trouble(f"rabbitmqctl {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")


def main():
    """Runs one command."""
    if not SHIFT or "SERVICES_DIR" not in os.environ:
        sys.exit(__doc__)
    broker = RabbitMq()
    commands = {
        "up": up,
        "crash": crash,
        "freeze": lambda broker: send(broker, signal.SIGSTOP),
        "thaw": lambda broker: send(broker, signal.SIGCONT),
        "down": RabbitMq.down,
    }
    try:
        if sys.argv[1:2] == ["control"]:
            control(broker, sys.argv[2:])
        elif len(sys.argv) == 2 and sys.argv[1] in commands:
            commands[sys.argv[1]](broker)
        else:
            sys.exit(__doc__)
    except Trouble as trouble:
        sys.exit(f"broker: {trouble}")


if __name__ == "__main__":
    main()
