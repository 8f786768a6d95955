"""A TCP proxy in this process whose links can be cut, slowed and black-holed, each direction by itself.

One link stands between one role and one server: `verifier-postgres`. What a fault does:

    cut    existing connections are reset, and new ones as soon as they are made
    slow   every piece of data is delayed, in both directions
    hole   nothing passes in the given direction, without an error: data, ends and new connections are held back and
           delivered when the fault is healed, as TCP's retransmissions would deliver them

Unprivileged processes can't use netem or packet filters, so this works above the kernel: TCP's own acknowledgements come at
once, whatever the fault. The programs' own timeouts are what is tested.
"""

import asyncio
import socket
import struct
import threading

PIECE_BYTES = 64 * 1024
UP, DOWN = "up", "down"  # requests, answers
DIRECTIONS = {"both": (UP, DOWN), UP: (UP,), DOWN: (DOWN,)}


class Link:
    """The connections from one role to one server."""

    def __init__(self, name, target_port):
        self.name = name
        self.target_port = target_port
        self.port = None
        self.pairs = set()
        self.is_cut = False
        self.delay_s = 0.0
        self.open = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        for gate in self.open.values():
            gate.set()
        # What the fault affected: connections reset or refused, pieces delayed or held. A fault that affects nothing tests nothing.
        self.met = 0

    async def listen(self):
        """Listens on a port that the system chooses; returns the server."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def serve(self, client_reader, client_writer):
        """Relays one connection until both ends have closed it or a fault does."""
        server_writer = None
        try:
            await self.pass_gate(UP)
            if self.is_cut:
                self.met += 1
                return
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            self.pairs.add((client_writer, server_writer))
            await asyncio.gather(
                self.pump(client_reader, server_writer, UP),
                self.pump(server_reader, client_writer, DOWN),
            )
        except (OSError, asyncio.CancelledError):
            pass  # the other end gets a reset below
        finally:
            self.pairs.discard((client_writer, server_writer))
            for writer in filter(None, (client_writer, server_writer)):
                reset(writer)

    async def pump(self, reader, writer, direction):
        """Relays data in one direction, and then the end of them. It holds one piece at most, beside the streams' buffers."""
        try:
            while data := await reader.read(PIECE_BYTES):
                await self.pass_gate(direction)
                if self.delay_s:
                    self.met += 1
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        finally:
            # A hole holds back the end of a connection as it holds back data.
            await self.pass_gate(direction)
        writer.write_eof()

    async def pass_gate(self, direction):
        """Waits while a hole holds this direction back."""
        if not self.open[direction].is_set():
            self.met += 1
            await self.open[direction].wait()

    def break_down(self, kind, direction, delay_s):
        """Begins a fault."""
        self.met = 0
        if kind == "cut":
            self.is_cut = True
            self.met = len(self.pairs)
            for pair in list(self.pairs):
                for writer in pair:
                    reset(writer)
        elif kind == "slow":
            self.delay_s = delay_s
        elif kind == "hole":
            for one in DIRECTIONS[direction]:
                self.open[one].clear()
        else:
            raise ValueError(f"no such fault of a link: {kind}")

    def heal(self):
        """Ends the fault, if there is one."""
        self.is_cut, self.delay_s = False, 0.0
        for gate in self.open.values():
            gate.set()


def reset(writer):
    """Closes a connection so that the peer gets a reset and not an end."""
    connection = writer.get_extra_info("socket")
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (OSError, AttributeError):
        pass  # already closed
    writer.transport.abort()


class Proxy:
    """All links, on an event loop in a thread of their own."""

    def __init__(self, targets):
        """`targets`: the server's port for each link's name."""
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="proxy", daemon=True)
        self.thread.start()
        self.links, self.servers = self.on_loop(self.begin(targets))

    async def begin(self, targets):
        """Makes the links on the loop that they run on."""
        links = {name: Link(name, port) for name, port in targets.items()}
        return links, [await link.listen() for link in links.values()]

    def on_loop(self, coroutine):
        """Runs a coroutine on the proxy's loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=10)

    def port(self, name):
        """Returns the port on which a link listens."""
        return self.links[name].port

    def break_down(self, name, kind, direction="both", delay_s=0.0):
        """Begins a fault on one link."""

        async def begin():
            self.links[name].break_down(kind, direction, delay_s)

        self.on_loop(begin())

    def met(self, name):
        """Counts what the fault of a link has affected so far."""
        return self.links[name].met

    def heal(self, name):
        """Ends the fault of a link; returns the count of what it affected."""

        async def end():
            link = self.links[name]
            met = link.met
            link.heal()
            return met

        return self.on_loop(end())

    def close(self):
        """Closes the proxy and every connection through it."""

        async def end():
            for server in self.servers:
                server.close()
            for link in self.links.values():
                link.heal()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.on_loop(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=10)
        self.loop.close()
