"""The schedule and the proxy, each by itself."""

import collections
import contextlib
import socket
import threading
import time
import unittest

from .proxy import Proxy
from .schedule import COMPONENTS, LINKS, LONGEST_FAULT_S, SIZES, schedule


class ScheduleTest(unittest.TestCase):
    """The schedule that a seed makes."""

    def test_a_seed_is_a_schedule(self):
        self.assertEqual(schedule(7, SIZES["full"]), schedule(7, SIZES["full"]))
        self.assertNotEqual(schedule(7, SIZES["full"]), schedule(8, SIZES["full"]))

    def test_everything_is_broken_as_often_as_its_size_says(self):
        for size in SIZES.values():
            faults = schedule(1, size)
            kinds = collections.Counter((fault.kind in ("kill", "freeze") and fault.kind or "link", fault.target) for fault in faults)
            for component in COMPONENTS:
                self.assertEqual((kinds["kill", component], kinds["freeze", component]), (size.kills, size.freezes))
            self.assertEqual([kinds["link", link] for link in LINKS], [size.link_faults] * len(LINKS))
            self.assertTrue(all(fault.lasts_s < LONGEST_FAULT_S for fault in faults))

    def test_the_small_one_has_every_kind(self):
        names = {fault.name for fault in schedule(1, SIZES["small"])}
        self.assertEqual(names, {"kill", "cut", "slow", "hole up", "hole down", "hole both"})


class Echo:
    """A server that sends back what it receives."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.echo, args=(connection,), daemon=True).start()

    @staticmethod
    def echo(connection):
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1_000):
                connection.sendall(data)


class ProxyTest(unittest.TestCase):
    """Each fault as a connection sees it."""

    def setUp(self):
        self.echo = Echo()
        self.proxy = Proxy({"a-b": self.echo.port})
        self.connection = self.connect()

    def tearDown(self):
        self.connection.close()
        self.proxy.close()
        self.echo.listener.close()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.proxy.port("a-b")), timeout=0.3)

    def say(self, connection, data):
        connection.sendall(data)
        return connection.recv(1_000)

    def test_a_cut_resets_what_is_there_and_what_comes(self):
        self.assertEqual(self.say(self.connection, b"x"), b"x")
        self.proxy.break_down("a-b", "cut")
        with self.assertRaises(ConnectionResetError):
            self.say(self.connection, b"y")
        with self.assertRaises(ConnectionResetError), self.connect() as late:
            self.say(late, b"y")
        self.assertGreaterEqual(self.proxy.heal("a-b"), 2)
        with self.connect() as later:
            self.assertEqual(self.say(later, b"z"), b"z")

    def test_a_hole_swallows_one_direction_and_gives_it_back(self):
        for direction in ("up", "down", "both"):
            self.proxy.break_down("a-b", "hole", direction)
            with self.assertRaises(TimeoutError):
                self.say(self.connection, direction.encode())
            self.assertGreaterEqual(self.proxy.heal("a-b"), 1)
            self.assertEqual(self.connection.recv(1_000), direction.encode())

    def test_a_hole_hides_that_the_server_has_gone(self):
        self.assertEqual(self.say(self.connection, b"x"), b"x")
        self.proxy.break_down("a-b", "hole", "down")
        self.connection.shutdown(socket.SHUT_WR)  # the server hangs up in answer
        with self.assertRaises(TimeoutError):
            self.connection.recv(1)
        self.proxy.heal("a-b")
        self.assertEqual(self.connection.recv(1), b"")

    def test_a_slow_link_delays_each_way(self):
        self.proxy.break_down("a-b", "slow", delay_s=0.1)
        began = time.monotonic()
        self.assertEqual(self.say(self.connection, b"x"), b"x")
        self.assertGreaterEqual(time.monotonic() - began, 0.2)
        self.assertEqual(self.proxy.heal("a-b"), 2)

    def test_a_fault_that_affects_nothing_counts_nothing(self):
        self.assertEqual(self.say(self.connection, b"x"), b"x")
        self.proxy.break_down("a-b", "hole", "up")
        self.assertEqual(self.proxy.met("a-b"), 0)
        self.assertEqual(self.proxy.heal("a-b"), 0)


if __name__ == "__main__":
    unittest.main()
